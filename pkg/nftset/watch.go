package nftset

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Watch calls changed, on the calling goroutine, when the ruleset of the calling
// thread's network namespace has changed, until ctx ends; then it returns nil.
// The first call comes as soon as no later change can be missed. Changes that come
// while changed runs are one call; those of this program are none, as far as the
// kernel tells. changed may be called once too often, never once too seldom. An
// error says that there was no listening.
func Watch(ctx context.Context, changed func()) error {
	conn, err := subscribe()
	if err != nil {
		return fmt.Errorf("watch the ruleset: %w", remedy(err))
	}
	return watch(ctx, conn, changed)
}

// subscribe opens a socket that gets the end of each transaction, not what is in
// it: that may be tens of thousands of messages.
func subscribe() (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 4, Size: 2}, // nlmsg_type
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(asLoaded(uint16(nftMessage(unix.NFT_MSG_NEWGEN)))), SkipFalse: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err == nil {
		err = conn.SetBPF(filter)
	}
	if err == nil {
		err = conn.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// asLoaded is a number in the machine's byte order as a packet filter reads it,
// which takes everything for the network's.
func asLoaded(n uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n))
}

// watch is Watch with a socket, which it closes.
func watch(ctx context.Context, conn *netlink.Conn, changed func()) error {
	news := make(chan struct{}, 1) // one is as good as many
	ended := make(chan error, 1)
	go func() { ended <- receive(conn, news) }()
	defer conn.Close()
	changed()
	for {
		select {
		case <-ctx.Done():
			conn.Close()
			<-ended
			return nil
		case err := <-ended:
			return fmt.Errorf("watch the ruleset: %w", err)
		case <-news:
			changed()
		}
	}
}

// receive tells of each transaction that was not ours, and of lost messages,
// until the socket is closed or fails.
func receive(conn *netlink.Conn, news chan<- struct{}) error {
	for {
		messages, err := conn.Receive()
		if err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return err
		}
		if err == nil && !foreign(messages) {
			continue
		}
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

// foreign reports whether one of the transactions was another program's.
func foreign(messages []netlink.Message) bool {
	for _, m := range messages {
		if g, err := parseGeneration(m.Data); err != nil || !g.ours() {
			return true
		}
	}
	return false
}

// ours reports whether a thread of this process made the transaction. In a pid
// namespace of its own the process does not know its threads by that number; the
// name keeps it from taking another's for its own.
func (g generation) ours() bool {
	name, err := os.ReadFile("/proc/self/comm")
	return err == nil && g.program == strings.TrimSpace(string(name)) && unix.Tgkill(os.Getpid(), int(g.thread), 0) == nil
}
