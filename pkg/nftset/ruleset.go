package nftset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoTable says that table inet smtpwall does not exist.
var ErrNoTable = errors.New("table inet smtpwall is not loaded; " + reload)

// errNoSet says that a set or map does not exist, while its table does.
var errNoSet = errors.New("it is missing from table inet smtpwall; " + reload)

const (
	// answerWithin bounds a look at the ruleset or a change of it: tens of
	// thousands of elements take a second.
	answerWithin = 30 * time.Second

	// tries is how often a look or a change is repeated that another program's
	// transaction came across.
	tries = 5
)

// ruleset is a netlink socket for one look at table inet smtpwall, or one change
// of its elements. After an error it cannot be used again.
type ruleset struct {
	conn *nftables.Conn
	gen  *netlink.Conn // asks for the generation, which the library does not
}

// openRuleset connects to the network namespace of the calling thread.
func openRuleset() (*ruleset, error) {
	gen, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := prepare(gen); err != nil {
		gen.Close()
		return nil, fmt.Errorf("prepare netlink socket: %w", err)
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(prepare))
	if err != nil {
		gen.Close()
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return &ruleset{conn, gen}, nil
}

// prepare sets a socket's options. A refusal is not to carry the request with it:
// that may not fit the socket's buffer.
func prepare(c *netlink.Conn) error {
	return errors.Join(c.SetDeadline(time.Now().Add(answerWithin)), c.SetOption(netlink.CapAcknowledge, true))
}

// close ends the sockets.
func (r *ruleset) close() {
	r.conn.CloseLasting()
	r.gen.Close()
}

// table is the daemon's.
func table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: "smtpwall"}
}

// look calls read, which makes several requests, until no transaction came
// between them. A ruleset that changes all the time is taken as it was read last:
// Watch tells of the last change.
func look(read func(*ruleset) error) (err error) {
	for range tries {
		var same bool
		if same, err = lookOnce(read); same {
			return err
		}
	}
	return err
}

// lookOnce calls read and reports whether the ruleset was the same before and
// afterwards.
func lookOnce(read func(*ruleset) error) (same bool, err error) {
	r, err := openRuleset()
	if err != nil {
		return true, err
	}
	defer r.close()
	before, err := r.generation()
	if err != nil {
		return true, err
	}
	if err := r.hasTable(); err != nil {
		return true, err
	}
	readErr := read(r)
	after, err := r.generation()
	if err != nil {
		return true, err
	}
	return before == after, readErr
}

// hasTable returns ErrNoTable if there is none.
func (r *ruleset) hasTable() error {
	_, err := r.conn.ListTableOfFamily(table().Name, table().Family)
	switch {
	case errors.Is(err, syscall.ENOENT):
		return ErrNoTable
	case err != nil:
		return fmt.Errorf("read table inet smtpwall: %w", remedy(err))
	}
	return nil
}

// elements returns a set or map and what it holds. It returns errNoSet if it does
// not exist.
func (r *ruleset) elements(name string) (*nftables.Set, []nftables.SetElement, error) {
	set, err := r.conn.GetSetByName(table(), name)
	switch {
	case errors.Is(err, syscall.ENOENT):
		return nil, nil, fmt.Errorf("read set %s: %w", name, errNoSet)
	case err != nil:
		return nil, nil, fmt.Errorf("read set %s: %w", name, remedy(err))
	}
	elements, err := r.conn.GetSetElements(set)
	if err != nil {
		return nil, nil, fmt.Errorf("read elements of set %s: %w", name, err)
	}
	return set, elements, nil
}

// chain returns what matters of a chain. One that does not exist is empty.
func (r *ruleset) chain(name string) (Chain, error) {
	rules, err := r.conn.GetRules(table(), &nftables.Chain{Name: name})
	if err != nil {
		return Chain{}, fmt.Errorf("list rules of chain %s: %w", name, err)
	}
	var c Chain
	for _, rule := range rules {
		c.add(rule.Exprs)
	}
	return c, nil
}

// remedy adds to an error what may help.
func remedy(err error) error {
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("%w: run this as root or with CAP_NET_ADMIN", err)
	}
	return err
}

// nftMessage is the type of an nftables message.
func nftMessage(kind uint16) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)
}

// generation is what the kernel says of a transaction: NFTA_GEN_ID,
// NFTA_GEN_PROC_PID (of the thread, in the first pid namespace) and
// NFTA_GEN_PROC_NAME.
type generation struct {
	id, thread uint32
	program    string
}

// generation is the number of the last transaction.
func (r *ruleset) generation() (uint32, error) {
	answer, err := r.gen.Execute(netlink.Message{
		Header: netlink.Header{Type: nftMessage(unix.NFT_MSG_GETGEN), Flags: netlink.Request},
		Data:   make([]byte, 4), // struct nfgenmsg: any family
	})
	if err != nil {
		return 0, fmt.Errorf("read generation of the ruleset: %w", remedy(err))
	}
	if len(answer) != 1 {
		return 0, fmt.Errorf("read generation of the ruleset: %d answers, not one", len(answer))
	}
	g, err := parseGeneration(answer[0].Data)
	return g.id, err
}

// parseGeneration reads the payload of NFT_MSG_NEWGEN.
func parseGeneration(data []byte) (generation, error) {
	var g generation
	if len(data) < 4 {
		return g, errors.New("read generation of the ruleset: message cut short")
	}
	ad, err := netlink.NewAttributeDecoder(data[4:])
	if err != nil {
		return g, fmt.Errorf("read generation of the ruleset: %w", err)
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_GEN_ID:
			g.id = ad.Uint32()
		case unix.NFTA_GEN_PROC_PID:
			g.thread = ad.Uint32()
		case unix.NFTA_GEN_PROC_NAME:
			g.program = ad.String()
		}
	}
	if err := ad.Err(); err != nil {
		return g, fmt.Errorf("read generation of the ruleset: %w", err)
	}
	return g, nil
}
