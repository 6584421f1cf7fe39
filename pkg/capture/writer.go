package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/pcapgo"
)

// Writer writes packets into a classic pcap file with nanoseconds. The file's
// header is written with the first packet, which gives the link type.
type Writer struct {
	out     io.Writer
	packets *pcapgo.Writer
	link    LinkType
	started bool
}

// NewWriter returns a Writer to out. The caller closes out; a file without a
// packet stays empty unless Finish is called.
func NewWriter(out io.Writer) *Writer {
	return &Writer{out: out, packets: pcapgo.NewWriterNanos(out)}
}

// Write writes the packet ip at time t behind the prefix of the frame it came
// in. All frames of a file must have one link type.
func (w *Writer) Write(t time.Time, from Frame, ip []byte) error {
	if err := w.start(from.Link); err != nil {
		return err
	}
	if from.Link != w.link {
		return fmt.Errorf("write capture: a packet of link type %d in a file of link type %d; replay such captures one at a time", from.Link, w.link)
	}
	data := append(append(make([]byte, 0, len(from.Prefix)+len(ip)), from.Prefix...), ip...)
	info := gopacket.CaptureInfo{Timestamp: t, CaptureLength: len(data), Length: len(data)}
	if err := w.packets.WritePacket(info, data); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

// Finish makes a file without packets a capture all the same.
func (w *Writer) Finish() error { return w.start(Ethernet) }

// start writes the file's header once. pcapgo's own has room for eight bits of
// link type only.
func (w *Writer) start(link LinkType) error {
	if w.started {
		return nil
	}
	w.started, w.link = true, link
	var b [24]byte
	binary.LittleEndian.PutUint32(b[0:], 0xa1b23c4d) // nanoseconds
	binary.LittleEndian.PutUint16(b[4:], 2)
	binary.LittleEndian.PutUint16(b[6:], 4)
	binary.LittleEndian.PutUint32(b[16:], maxRecord)
	binary.LittleEndian.PutUint32(b[20:], uint32(link))
	if _, err := w.out.Write(b[:]); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}
