package metrics

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Bounds of what a client may take.
const (
	maxClients    = 16               // connections at once: a few scrapers; the next waits
	maxScrapes    = 4                // requests at once; the next is answered 503
	maxHeader     = 8 << 10          // bytes of a request's header
	readTimeout   = 5 * time.Second  // for a request
	writeTimeout  = 30 * time.Second // for an answer, of some megabytes at most
	idleTimeout   = 30 * time.Second // between two requests on a connection
	methodAndPath = "GET /metrics"   // all that is answered
)

// Serve answers scrapes at addr, HOST:PORT, until ctx ends, and returns nil then.
// It calls ready once it listens. There is no access control: addr is to be one
// that only the scraper reaches.
func (c *Collector) Serve(ctx context.Context, addr string, ready func()) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for metrics: %w: %s", err, remedy(err))
	}
	ready()
	return c.serve(ctx, l)
}

// remedy says what to do about an address that cannot be listened at.
func remedy(err error) string {
	var format *net.AddrError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there: give another port with --metrics"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine does not have the address: give one of its own with --metrics"
	case errors.Is(err, syscall.EACCES):
		return "a port below 1024 takes CAP_NET_BIND_SERVICE: give another one with --metrics"
	case errors.As(err, &format):
		return "--metrics takes HOST:PORT, as in 127.0.0.1:9925"
	}
	return "give another address with --metrics"
}

// serve answers at l, which it closes.
func (c *Collector) serve(ctx context.Context, l net.Listener) error {
	handler, err := c.handler()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       log.New(reports{c.from.Report}, "", 0),
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(netutil.LimitListener(l, maxClients)); ctx.Err() == nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// handler answers scrapes with the daemon's metrics and those of the process.
func (c *Collector) handler() (http.Handler, error) {
	r := prometheus.NewRegistry()
	for _, part := range []prometheus.Collector{
		c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := r.Register(part); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle(methodAndPath, promhttp.HandlerFor(r, promhttp.HandlerOpts{
		// What can be told is told; what cannot is counted in
		// promhttp_metric_handler_errors_total.
		ErrorHandling: promhttp.ContinueOnError, Registry: r, MaxRequestsInFlight: maxScrapes,
	}))
	return mux, nil
}

// reports hands the lines of a log to a function.
type reports struct{ to func(error) }

// Write takes one line.
func (r reports) Write(line []byte) (int, error) {
	if r.to != nil {
		r.to(errors.New(strings.TrimSpace(string(line))))
	}
	return len(line), nil
}
