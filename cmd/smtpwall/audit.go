package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/smtpwall/smtpwall/pkg/audit"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/static"
	"github.com/smtpwall/smtpwall/pkg/syslog"
)

// auditFlags are --audit, --audit-format and --audit-tag.
type auditFlags struct {
	targets []string
	format  choice
	tag     string
}

// add defines the flags.
func (a *auditFlags) add(f *pflag.FlagSet) {
	a.format = choice{value: "asa", of: []string{"asa", "json"}}
	f.StringArrayVar(&a.targets, "audit", []string{"syslog"}, "where audit records go: syslog, stderr or file:`TARGET`; may be given more than once")
	f.Var(&a.format, "audit-format", "audit records as the ASA's text or as JSON: asa or json")
	f.StringVar(&a.tag, "audit-tag", audit.DefaultTag, "`tag` of audit records in the ASA's format; ASA for programs that read those of an ASA")
}

// auditTrail writes events to every target.
type auditTrail struct {
	formatter *audit.Formatter
	targets   []string
	logs      []*syslog.Log
}

// open opens every target, or none. nameif names interfaces as the policy does;
// start is the epoch of events.
func (a *auditFlags) open(log *logrus.Logger, nameif map[string]string, start time.Time) (*auditTrail, error) {
	format, _ := audit.ParseFormat(a.format.value) // the flag takes no others
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("read host name for audit records: %w", err)
	}
	names := interfaceNames{nameif: nameif, known: map[uint32]knownInterface{}}
	t := &auditTrail{formatter: audit.New(audit.Options{
		Format: format, Tag: a.tag, Host: host, Interface: names.name,
		Wall: func(at time.Duration) time.Time { return wall(time.Now(), time.Since(start), at) },
	})}
	for _, target := range a.targets {
		l, err := syslog.Open(target, syslog.Options{Report: func(err error) { reportTarget(log, target, err) }})
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.targets, t.logs = append(t.targets, target), append(t.logs, l)
	}
	return t, nil
}

// reportTarget logs that a target failed or, with nil, works again.
func reportTarget(log *logrus.Logger, target string, err error) {
	if err != nil {
		log.Errorf("audit target %s fails, records wait: %v", target, err)
		return
	}
	log.Infof("audit target %s works again", target)
}

// wall is the wall time of an event: now, less what went by since it. Clocks set
// while the daemon runs thus do not stay wrong.
func wall(now time.Time, sinceStart, at time.Duration) time.Time {
	return now.Add(at - sinceStart)
}

// write makes records of an event. It never blocks.
func (t *auditTrail) write(e *engine.Event) { t.deliver(t.formatter.Records(e)) }

// writeStatic makes records of an event of the connection limits.
func (t *auditTrail) writeStatic(e *static.Event) { t.deliver(t.formatter.StaticRecords(e)) }

// deliver writes records to every target.
func (t *auditTrail) deliver(records []audit.Record) {
	for _, r := range records {
		for _, l := range t.logs {
			l.Write(r)
		}
	}
}

// reopen opens files again.
func (t *auditTrail) reopen() {
	for _, l := range t.logs {
		l.Reopen()
	}
}

// close delivers what is queued.
func (t *auditTrail) close() error {
	var errs []error
	for i, l := range t.logs {
		if err := l.Close(); err != nil {
			errs = append(errs, fmt.Errorf("audit target %s: %w", t.targets[i], err))
		}
	}
	return errors.Join(errs...)
}

// interfaceNames names interfaces by their index. It belongs to one goroutine.
type interfaceNames struct {
	nameif map[string]string // the policy's name by the kernel's
	known  map[uint32]knownInterface
}

// knownInterface is a name and when it was read.
type knownInterface struct {
	name string
	read time.Time
}

// nameLife is how long a name is taken for true: reading one asks the kernel for
// all, and a renamed interface is rare.
const nameLife = time.Minute

// name returns the policy's name of an interface, or else the kernel's; empty if
// there is no such interface.
func (n *interfaceNames) name(index uint32) string {
	k, ok := n.known[index]
	if ok && time.Since(k.read) < nameLife {
		return k.name
	}
	k = knownInterface{read: time.Now(), name: k.name} // of one that is gone: the last name
	if dev, err := net.InterfaceByIndex(int(index)); err == nil {
		k.name = dev.Name
		if asa, ok := n.nameif[dev.Name]; ok {
			k.name = asa
		}
	}
	n.known[index] = k
	return k.name
}
