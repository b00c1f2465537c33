package serve

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what Prometheus reads. They are never served where the files are.
type metrics struct {
	registry       *prometheus.Registry
	requests       *prometheus.CounterVec // by front end and status
	seconds        *prometheus.HistogramVec
	sent, received *prometheus.CounterVec
	running        prometheus.Gauge
	removed        prometheus.Counter // sessions that were cleaned up
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebb_serve_requests_total", Help: "Requests that ended, by front end and HTTP status.",
		}, []string{"front", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ebb_serve_request_seconds", Help: "How long requests took.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"front"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebb_serve_sent_bytes_total", Help: "Bytes of answers' bodies, counted when the request ends.",
		}, []string{"front"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebb_serve_received_bytes_total", Help: "Bytes of requests' bodies, counted when the request ends.",
		}, []string{"front"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "ebb_serve_requests_running", Help: "Requests under way."}),
		removed: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebb_serve_sessions_cleaned_total", Help: "Upload sessions that were removed as nobody went on with them."}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.sent, m.received, m.running, m.removed,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// done counts a request.
func (m *metrics) done(l *line, took time.Duration) {
	m.requests.WithLabelValues(l.front, strconv.Itoa(l.status)).Inc()
	m.seconds.WithLabelValues(l.front).Observe(took.Seconds())
	m.sent.WithLabelValues(l.front).Add(float64(l.sent))
	m.received.WithLabelValues(l.front).Add(float64(l.received.Load()))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector; the sessions are counted when they are asked for.
func (s *server) Describe(to chan<- *prometheus.Desc) { to <- sessionsDesc }

// Collect implements prometheus.Collector.
func (s *server) Collect(to chan<- prometheus.Metric) {
	for _, g := range *s.groups.Load() {
		if g.uploads == nil || g.Dir == "" { // to list a bucket takes time, and costs
			continue
		}
		if list, err := g.uploads.prefix.Store.List(context.Background()); err == nil {
			to <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(len(list)), g.Path)
		}
	}
}

var sessionsDesc = prometheus.NewDesc("ebb_serve_sessions", "Upload sessions that are kept.", []string{"group"}, nil)
