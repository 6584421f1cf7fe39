package metrics

import (
	"net/netip"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// family is a metric family, and how its values are found in a T.
type family[T any] struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	values func(from *T, put put)
}

// put takes a value with the labels that its family has beside those of its T.
type put func(n uint64, labels ...string)

// labels are the names of the labels that every metric of a T has.
type labels[T any] []string

// counter is a family of one value a T, which only grows.
func (l labels[T]) counter(name, help string, value func(*T) uint64) family[T] {
	return l.family(prometheus.CounterValue, name, help, func(from *T, put put) { put(value(from)) })
}

// gauge is a family of one value a T.
func (l labels[T]) gauge(name, help string, value func(*T) uint64) family[T] {
	return l.family(prometheus.GaugeValue, name, help, func(from *T, put put) { put(value(from)) })
}

// counters is a family of several values a T, told apart by more labels.
func (l labels[T]) counters(name, help string, values func(*T, put), more ...string) family[T] {
	return l.family(prometheus.CounterValue, name, help, values, more...)
}

// family is one of any kind.
func (l labels[T]) family(kind prometheus.ValueType, name, help string, values func(*T, put), more ...string) family[T] {
	all := append(append([]string(nil), l...), more...)
	return family[T]{prometheus.NewDesc("smtpwall_"+name, help, all, nil), kind, values}
}

// describe lists families.
func describe[T any](to chan<- *prometheus.Desc, all []family[T]) {
	for _, f := range all {
		to <- f.desc
	}
}

// collect tells the values of every family in from; own are the values of its
// labels.
func collect[T any](to chan<- prometheus.Metric, all []family[T], from *T, own ...string) {
	for _, f := range all {
		f.values(from, func(n uint64, more ...string) {
			values := append(append([]string(nil), own...), more...)
			m, err := prometheus.NewConstMetric(f.desc, f.kind, float64(n), values...)
			if err != nil { // a label that is not UTF-8: the scrape says so, and goes on
				m = prometheus.NewInvalidMetric(f.desc, err)
			}
			to <- m
		})
	}
}

// number is n as a label.
func number(n uint64) string { return strconv.FormatUint(n, 10) }

// hostOrNet is an address without its length, or a network with it.
func hostOrNet(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// oneIf is 1 for true.
func oneIf(yes bool) uint64 {
	if yes {
		return 1
	}
	return 0
}
