package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/sirupsen/logrus"
)

// Task is something that runs as long as the daemon does.
type Task interface {
	// Run does the work until ctx ends, and then returns nil. An error ends
	// the daemon.
	Run(ctx context.Context) error
	// Ready is closed when the task does what it is for.
	Ready() <-chan struct{}
	// String names the task in errors.
	String() string
}

// task is a Task made of a function.
type task struct {
	name  string
	run   func(ctx context.Context, ready func()) error
	ready chan struct{}
}

// NewTask makes a Task of run, which calls ready, once or more often, when it
// does what it is for.
func NewTask(name string, run func(ctx context.Context, ready func()) error) Task {
	return &task{name: name, run: run, ready: make(chan struct{})}
}

// Run runs the function. A function that returns before ctx ends has failed.
func (t *task) Run(ctx context.Context) error {
	err := t.run(ctx, sync.OnceFunc(func() { close(t.ready) }))
	if err == nil && ctx.Err() == nil {
		err = errEnded
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	return nil
}

// Ready is closed when the function said so.
func (t *task) Ready() <-chan struct{} { return t.ready }

// String is the task's name.
func (t *task) String() string { return t.name }

var (
	// errEnded is a task that ended by itself.
	errEnded = errors.New("it ended by itself")
	// errStop is the signal task's way to end the others.
	errStop = errors.New("stopped by a signal")
)

// Signals is the task that ends the daemon on SIGTERM and SIGINT. A second
// signal has its usual effect: it kills a daemon that hangs.
func Signals(log *logrus.Logger) Task {
	return NewTask("signals", func(ctx context.Context, ready func()) error {
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, syscall.SIGTERM, os.Interrupt)
		defer signal.Stop(caught)
		ready()
		select {
		case <-ctx.Done():
			return nil
		case s := <-caught:
			log.Infof("stopping: %s", s)
			return errStop
		}
	})
}
