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
	removed        prometheus.Counter     // sessions that were cleaned up
	answers        *prometheus.CounterVec // to clients that speak BranchCache
	stood          prometheus.Counter     // bytes that content information stood for
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
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebb_serve_branchcache_answers_total", Help: "Answers to clients that speak BranchCache, by what they got.",
		}, []string{"answer"}),
		stood:   prometheus.NewCounter(prometheus.CounterOpts{Name: "ebb_serve_branchcache_described_bytes_total", Help: "Bytes of files that content information was given for."}),
		removed: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebb_serve_sessions_cleaned_total", Help: "Upload sessions that were removed as nobody went on with them."}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.sent, m.received, m.running, m.removed, m.answers, m.stood,
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

// described counts what files.NewOrigin tells.
func (m *metrics) described(answer string, bytes int64) {
	m.answers.WithLabelValues(answer).Inc()
	m.stood.Add(float64(bytes))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector; the sessions are counted when they are asked for.
func (s *server) Describe(to chan<- *prometheus.Desc) {
	to <- sessionsDesc
	to <- hashesDesc
	to <- hashingDesc
	to <- hashedDesc
	to <- hostedDesc
	to <- waitingDesc
	to <- offersDesc
	to <- fetchedDesc
}

// Collect implements prometheus.Collector.
func (s *server) Collect(to chan<- prometheus.Metric) {
	if s.hashes != nil {
		st := s.hashes.Stats()
		to <- prometheus.MustNewConstMetric(hashesDesc, prometheus.GaugeValue, float64(st.Used))
		to <- prometheus.MustNewConstMetric(hashingDesc, prometheus.GaugeValue, float64(st.Waiting))
		to <- prometheus.MustNewConstMetric(hashedDesc, prometheus.CounterValue, float64(st.Hashed))
	}
	if s.hosted != nil {
		st := s.hosted.Stats()
		to <- prometheus.MustNewConstMetric(hostedDesc, prometheus.GaugeValue, float64(st.Used))
		to <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(st.Waiting))
		to <- prometheus.MustNewConstMetric(offersDesc, prometheus.CounterValue, float64(st.Offers))
		to <- prometheus.MustNewConstMetric(fetchedDesc, prometheus.CounterValue, float64(st.Fetched))
	}
	for _, g := range *s.groups.Load() {
		if g.uploads == nil || g.Dir == "" { // to list a bucket takes time, and costs
			continue
		}
		if list, err := g.uploads.prefix.Store.List(context.Background()); err == nil {
			to <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(len(list)), g.Path)
		}
	}
}

var (
	sessionsDesc = prometheus.NewDesc("ebb_serve_sessions", "Upload sessions that are kept.", []string{"group"}, nil)
	hashesDesc   = prometheus.NewDesc("ebb_serve_branchcache_hashes_bytes", "Bytes on disk of hashes of files.", nil, nil)
	hashingDesc  = prometheus.NewDesc("ebb_serve_branchcache_hashing", "Files that are hashed, or wait for it.", nil, nil)
	hostedDesc   = prometheus.NewDesc("ebb_serve_hosted_cache_bytes", "Bytes on disk of the hosted cache.", nil, nil)
	waitingDesc  = prometheus.NewDesc("ebb_serve_hosted_cache_waiting", "Segments that were offered and are to be fetched.", nil, nil)
	offersDesc   = prometheus.NewDesc("ebb_serve_hosted_cache_offers_total", "Segments that were offered.", nil, nil)
	fetchedDesc  = prometheus.NewDesc("ebb_serve_hosted_cache_fetched_bytes_total", "Bytes that were fetched from machines that offered them.", nil, nil)
	hashedDesc   = prometheus.NewDesc("ebb_serve_branchcache_hashed_bytes_total", "Bytes of files that were hashed.", nil, nil)
)
