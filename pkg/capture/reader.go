// Package capture reads packet captures for replay, writes the packets that an
// inspection let through, and builds the packets of a dialogue written as text.
//
// It may be imported from level 5 up. It must never judge a packet: what is not
// TCP to an inspected port is its caller's to skip. Files are hostile until
// proven otherwise: every length is checked before memory is taken for it, and
// what is wrong with a file is an error with its name and offset.
//
// Classic pcap is read and written with gopacket's pcapgo. Two things it cannot
// do are done here: its link type has eight bits, too few for Linux cooked
// captures of version 2 (276), and its pcapng reader takes memory as a block
// asks, divides by a resolution of zero and ends a cut file without an error.
package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/gopacket/pcapgo"
)

// maxRecord bounds the bytes of one captured packet: tcpdump's own bound.
const maxRecord = 256 << 10

// Frame is one packet of a capture. Its bytes belong to the caller.
type Frame struct {
	Time   time.Time // never before the frame read before it
	Link   LinkType
	Prefix []byte // what stands before the IP packet
	// IP is the packet, as long as its header says: padding stays out. It is nil
	// if the frame holds no IP packet that can be read.
	IP []byte
	// Truncated is true if the capture kept fewer bytes than were on the wire
	// and IP lacks them: it cannot be judged.
	Truncated bool
}

// record is a packet as a file format has it.
type record struct {
	time time.Time // zero if the format has none
	link LinkType
	data []byte
	wire int // length on the wire
}

// format reads the records of one file format.
type format interface {
	// next returns io.EOF at the file's proper end only.
	next() (record, error)
	// at is the offset of the record or block last begun.
	at() int64
}

// Reader reads one capture file.
type Reader struct {
	name    string
	format  format
	last    time.Time
	clamped uint64
	file    *os.File // nil if NewReader made this Reader
}

// Open opens a capture file.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open capture: %w", err)
	}
	r, err := NewReader(path, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	r.file = f
	return r, nil
}

// NewReader reads a capture from in; name is for messages.
func NewReader(name string, in io.Reader) (*Reader, error) {
	r := &Reader{name: name, last: time.Unix(0, 0).UTC()}
	counted := newOffsetReader(in)
	magic, err := counted.Peek(4)
	if err != nil {
		return nil, r.fail(0, fmt.Errorf("shorter than a capture's header: %w", noEOF(err)))
	}
	switch {
	case binary.LittleEndian.Uint32(magic) == ngSection:
		r.format = &ngReader{in: counted}
	case magic[0] == 0x1f && magic[1] == 0x8b:
		return nil, r.fail(0, errors.New("compressed with gzip: decompress it first"))
	default:
		r.format, err = newClassic(counted)
	}
	if err != nil {
		return nil, r.fail(0, err)
	}
	return r, nil
}

// Next returns the next frame, io.EOF at the file's proper end, and an error
// with file and offset if it is cut or broken. After an error there is no next.
func (r *Reader) Next() (Frame, error) {
	rec, err := r.format.next()
	switch {
	case err == io.EOF:
		return Frame{}, io.EOF
	case err != nil:
		return Frame{}, r.fail(r.format.at(), err)
	}
	r.stamp(&rec)
	return rec.frame(), nil
}

// stamp keeps time from running backwards, as captures of several queues do.
func (r *Reader) stamp(rec *record) {
	switch {
	case rec.time.IsZero():
		rec.time = r.last
	case rec.time.Before(r.last):
		r.clamped++
		rec.time = r.last
	}
	r.last = rec.time
}

// Clamped is the number of frames whose time was before that of the frame
// before them; they carry that one's time.
func (r *Reader) Clamped() uint64 { return r.clamped }

// Close closes the file that Open opened.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// fail says what is wrong, in which file and where.
func (r *Reader) fail(at int64, err error) error {
	return fmt.Errorf("read capture %s: offset %d: %w", r.name, at, err)
}

// noEOF turns an end of file in the middle of something into what it is.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frame takes the record apart.
func (rec record) frame() Frame {
	f := Frame{Time: rec.time, Link: rec.link, Prefix: rec.data}
	cut := rec.wire > len(rec.data)
	at := rec.link.ipOffset(rec.data)
	if at < 0 {
		return f
	}
	ip := rec.data[at:]
	n, ok := ipLength(ip, max(rec.wire-at, len(ip)))
	switch {
	case !ok:
		f.Truncated = cut && len(ip) < 40
		return f
	case n > len(ip):
		f.Truncated, n = true, len(ip)
	}
	f.Prefix, f.IP = rec.data[:at:at], ip[:n:n]
	return f
}

// classicReader reads classic pcap.
type classicReader struct {
	in      *offsetReader
	packets *pcapgo.Reader
	link    LinkType
	start   int64
}

// newClassic reads the header of a classic pcap file.
func newClassic(in *offsetReader) (*classicReader, error) {
	header, err := in.Peek(24)
	if err != nil {
		return nil, fmt.Errorf("read pcap header: %w", noEOF(err))
	}
	link := binary.LittleEndian.Uint32(header[20:])
	if header[0] == 0xa1 {
		link = binary.BigEndian.Uint32(header[20:])
	}
	packets, err := pcapgo.NewReader(in.Reader)
	if err != nil {
		return nil, fmt.Errorf("neither pcap nor pcapng: %w", err)
	}
	packets.SetSnaplen(maxRecord) // the file's own bound may be 0, or 4 GiB
	// The upper bits hold the length of a frame check sequence.
	return &classicReader{in: in, packets: packets, link: LinkType(link & 0xffff)}, nil
}

// at is the offset of the record last begun.
func (c *classicReader) at() int64 { return c.start }

// next returns the next packet.
func (c *classicReader) next() (record, error) {
	c.start = c.in.offset()
	data, info, err := c.packets.ReadPacketData()
	if err != nil && c.in.offset() != c.start {
		err = noEOF(err) // a header without its packet
	}
	return record{time: info.Timestamp, link: c.link, data: data, wire: info.Length}, err
}

// offsetReader counts what was read through it.
type offsetReader struct {
	*bufio.Reader
	counter *countReader
}

// newOffsetReader buffers in. pcapgo takes a bufio.Reader of this size as it is
// and puts no buffer of its own on top, so that the count stays true.
func newOffsetReader(in io.Reader) *offsetReader {
	c := &countReader{in: in}
	return &offsetReader{bufio.NewReaderSize(c, 64<<10), c}
}

// offset is how many bytes were taken from the buffer.
func (o *offsetReader) offset() int64 { return o.counter.n - int64(o.Buffered()) }

// countReader counts what was read from in.
type countReader struct {
	in io.Reader
	n  int64
}

// Read reads and counts.
func (c *countReader) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.n += int64(n)
	return n, err
}
