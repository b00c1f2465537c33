package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/notify"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/internal/queue"
)

// The metrics of the service. Those of bytes count what is durable here, or acknowledged by servers.
var (
	jobsDesc     = prometheus.NewDesc("ebb_jobs", "Jobs that are not completed or cancelled, by state.", []string{"state"}, nil)
	eventsDesc   = prometheus.NewDesc("ebb_events_total", "Events of jobs since the service started, by kind.", []string{"kind"}, nil)
	bytesDesc    = prometheus.NewDesc("ebb_transferred_bytes_total", "Bytes of files that were transferred since the service started.", []string{"direction"}, nil)
	noticesDesc  = prometheus.NewDesc("ebb_notifications_total", "Attempts to tell owners of their jobs since the service started.", []string{"channel", "result"}, nil)
	pathsDesc    = prometheus.NewDesc("ebb_paths", "Network paths in use.", nil, nil)
	startDesc    = prometheus.NewDesc("ebb_start_time_seconds", "When the service started, in Unix time.", nil, nil)
	onlineDesc   = prometheus.NewDesc("ebb_online", "1 if there is a network.", nil, nil)
	sharedDesc   = prometheus.NewDesc("ebb_peers_download_bytes_total", "Bytes of downloads for which content information was there, by where they came from.", []string{"source"}, nil)
	peerDesc     = prometheus.NewDesc("ebb_peers_bytes_total", "Bytes of blocks that were received from peers and right, and that were sent to them.", []string{"direction"}, nil)
	askedDesc    = prometheus.NewDesc("ebb_peers_probes_total", "Questions who has something: sent, answered by others, received from others, answered, and datagrams that were dropped.", []string{"kind"}, nil)
	busyDesc     = prometheus.NewDesc("ebb_peers_refused_total", "Requests of peers that got an empty answer as there were too many at once.", nil, nil)
	offersDesc   = prometheus.NewDesc("ebb_peers_offers_total", "Segments that hosted caches were offered.", nil, nil)
	cacheDesc    = prometheus.NewDesc("ebb_peers_cache_bytes", "Bytes in the cache of peers; absent while peer caching is off.", nil, nil)
	roomDesc     = prometheus.NewDesc("ebb_peers_cache_limit_bytes", "Bytes that the cache may have now; absent while peer caching is off.", nil, nil)
	servingDesc  = prometheus.NewDesc("ebb_peers_serving", "1 while blocks are served to peers.", nil, nil)
	problemsDesc = prometheus.NewDesc("ebb_notices", "What a person should know about the service; `ebb version` tells it.", nil, nil)
)

// mostScrapes bounds the readings of the metrics that are made at once.
const mostScrapes = 4

// Metrics returns the handler of what Prometheus reads, whoever asks. It names no job, server, file or user.
func Metrics(q *queue.Queue, gov *governor.Governor, notifier *notify.Notifier, node *peers.Node, service Service) http.Handler {
	s := &server{q: q, gov: gov, notifier: notifier, peers: node, service: service}
	return s.metrics()
}

func (s *server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(s, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: mostScrapes})
}

// registerMetrics registers what Prometheus reads.
func (s *server) registerMetrics(a huma.API) {
	metrics := s.metrics()
	text := &huma.Schema{Type: huma.TypeString}
	huma.Register(a, huma.Operation{OperationID: "getMetrics", Method: "GET", Path: "/v1/metrics", Summary: "Metrics of the service for Prometheus, which are about the jobs of all users; for administrators", Errors: []int{403},
		Responses: map[string]*huma.Response{"200": {Description: "Prometheus's text format", Content: map[string]*huma.MediaType{"text/plain": {Schema: text}}}}},
		func(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
			if !callerOf(ctx).Admin() {
				return nil, newProblem(http.StatusForbidden, &bits.Error{Code: bits.AccessDenied, Context: bits.ContextGeneralQueueManager, Message: "only an administrator sees the metrics, which are about the jobs of all users"})
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				r, w := humago.Unwrap(hc)
				metrics.ServeHTTP(w, r)
			}}, nil
		})
}

// Describe implements prometheus.Collector.
func (s *server) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{jobsDesc, eventsDesc, bytesDesc, noticesDesc, pathsDesc, startDesc, onlineDesc, problemsDesc, sharedDesc, peerDesc, askedDesc, busyDesc, offersDesc, cacheDesc, roomDesc, servingDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (s *server) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	service := s.service(queue.Caller{}) // root: who is not an administrator does not get here
	for state := range bits.State(bits.States) {
		if !state.Final() {
			gauge(jobsDesc, float64(service.Jobs[state.String()]), state.String())
		}
	}
	for kind, n := range s.q.EventCounts() {
		counter(eventsDesc, float64(n), string(kind))
	}
	received, sent := s.q.Moved()
	counter(bytesDesc, float64(received), "received")
	counter(bytesDesc, float64(sent), "sent")
	for c, n := range s.notifier.Counts() {
		counter(noticesDesc, float64(n), c.Channel, c.Result)
	}
	gauge(pathsDesc, float64(len(s.gov.Paths())))
	gauge(startDesc, float64(service.Started.UnixNano())/1e9)
	online := 0.0
	if service.Conditions.Online {
		online = 1
	}
	gauge(onlineDesc, online)
	gauge(problemsDesc, float64(len(service.Notices)))

	p := s.peers.Status()
	for source, n := range map[string]int64{"peers": p.Stats.FromPeers, "cache": p.Stats.FromCache, "origin": p.Stats.FromOrigin} {
		counter(sharedDesc, float64(n), source)
	}
	for direction, n := range map[string]int64{"received": p.Stats.Fetched, "sent": p.Stats.Served} {
		counter(peerDesc, float64(n), direction)
	}
	for kind, n := range map[string]int64{"sent": p.Stats.Probes, "answers": p.Stats.Answers, "received": p.Stats.Probed, "answered": p.Stats.Answered, "dropped": p.Stats.Dropped} {
		counter(askedDesc, float64(n), kind)
	}
	counter(busyDesc, float64(p.Stats.Refused))
	counter(offersDesc, float64(p.Stats.Offers))
	if p.Settings.Mode != peers.Off {
		gauge(cacheDesc, float64(p.Used))
		gauge(roomDesc, float64(p.Limit))
	}
	serving := 0.0
	if len(p.Serving) > 0 {
		serving = 1
	}
	gauge(servingDesc, serving)
}
