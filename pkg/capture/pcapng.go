package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"
)

// Block types of pcapng (draft-ietf-opsawg-pcapng). All other blocks are skipped.
const (
	ngSection   = 0x0a0d0d0a // the same in both byte orders
	ngInterface = 1
	ngPacket    = 2 // obsolete, written by old Wiresharks
	ngSimple    = 3
	ngEnhanced  = 6
)

// Bounds of a file.
const (
	maxBlock      = maxRecord + 128<<10 // a packet and its options
	maxInterfaces = 4096                // in a section; real ones have a handful
)

// ngReader reads the blocks of a pcapng file.
type ngReader struct {
	in     *offsetReader
	start  int64 // of the block last begun
	order  binary.ByteOrder
	ifaces []ngIface // of the section
}

// ngIface is an interface description.
type ngIface struct {
	link    LinkType
	snaplen uint32
	units   uint64 // timestamp units in a second
	offset  int64  // seconds to add
}

// at is the offset of the block last begun.
func (r *ngReader) at() int64 { return r.start }

// next returns the next packet.
func (r *ngReader) next() (record, error) {
	for {
		kind, body, err := r.block()
		if err != nil {
			return record{}, err
		}
		switch kind {
		case ngSection:
			err = r.section(body)
		case ngInterface:
			err = r.iface(body)
		case ngEnhanced, ngPacket:
			return r.packet(kind, body)
		case ngSimple:
			return r.simple(body)
		}
		if err != nil {
			return record{}, err
		}
	}
}

// block reads one block; body is nil if its type is not one we read.
func (r *ngReader) block() (kind uint32, body []byte, err error) {
	r.start = r.in.offset()
	var head [12]byte
	if _, err := io.ReadFull(r.in, head[:8]); err != nil {
		return 0, nil, err
	}
	rest := head[8:8]
	if binary.LittleEndian.Uint32(head[:]) == ngSection {
		rest = head[8:12]
		if _, err := io.ReadFull(r.in, rest); err != nil {
			return 0, nil, noEOF(err)
		}
		if r.order = byteOrder(rest); r.order == nil {
			return 0, nil, errors.New("pcapng section without a byte order")
		}
	}
	if r.order == nil {
		return 0, nil, errors.New("pcapng block before the first section")
	}
	kind = r.order.Uint32(head[:])
	length := int64(r.order.Uint32(head[4:]))
	if length < int64(12+len(rest)) || length%4 != 0 {
		return 0, nil, fmt.Errorf("pcapng block of %d bytes", length)
	}
	body, err = r.body(kind, length-12, rest)
	if err != nil {
		return 0, nil, err
	}
	return kind, body, r.trailer(length)
}

// body reads n bytes that follow a block's header, of which start was read
// already, or skips them.
func (r *ngReader) body(kind uint32, n int64, start []byte) ([]byte, error) {
	switch kind {
	case ngSection, ngInterface, ngPacket, ngSimple, ngEnhanced:
	default:
		_, err := io.CopyN(io.Discard, r.in, n)
		return nil, noEOF(err)
	}
	if n > maxBlock {
		return nil, fmt.Errorf("pcapng block of %d bytes, more than %d", n, maxBlock)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r.in, body[copy(body, start):])
	return body, noEOF(err)
}

// trailer reads the length that ends a block.
func (r *ngReader) trailer(length int64) error {
	var b [4]byte
	if _, err := io.ReadFull(r.in, b[:]); err != nil {
		return noEOF(err)
	}
	if got := int64(r.order.Uint32(b[:])); got != length {
		return fmt.Errorf("pcapng block of %d bytes ends as one of %d", length, got)
	}
	return nil
}

// byteOrder reads a section's byte order magic; nil if it is none.
func byteOrder(b []byte) binary.ByteOrder {
	const magic = 0x1a2b3c4d
	switch {
	case binary.LittleEndian.Uint32(b) == magic:
		return binary.LittleEndian
	case binary.BigEndian.Uint32(b) == magic:
		return binary.BigEndian
	}
	return nil
}

// section begins a new section, which has interfaces of its own.
func (r *ngReader) section(body []byte) error {
	if len(body) < 16 {
		return errors.New("pcapng section header cut short")
	}
	if major := r.order.Uint16(body[4:]); major != 1 {
		return fmt.Errorf("pcapng version %d, want 1", major)
	}
	r.ifaces = nil
	return nil
}

// iface adds an interface description.
func (r *ngReader) iface(body []byte) error {
	if len(body) < 8 {
		return errors.New("pcapng interface description cut short")
	}
	if len(r.ifaces) == maxInterfaces {
		return fmt.Errorf("more than %d interfaces in a pcapng section", maxInterfaces)
	}
	i := ngIface{link: LinkType(r.order.Uint16(body)), snaplen: r.order.Uint32(body[4:]), units: 1e6}
	for options := body[8:]; len(options) >= 4; {
		code, n := r.order.Uint16(options), int(r.order.Uint16(options[2:]))
		padded := 4 + (n+3)&^3
		if code == 0 || padded > len(options) {
			break
		}
		value := options[4 : 4+n]
		switch {
		case code == 9 && n == 1: // if_tsresol
			if i.units = resolution(value[0]); i.units == 0 {
				return fmt.Errorf("pcapng timestamp resolution %#02x", value[0])
			}
		case code == 14 && n == 8: // if_tsoffset
			i.offset = int64(r.order.Uint64(value))
		}
		options = options[padded:]
	}
	r.ifaces = append(r.ifaces, i)
	return nil
}

// resolution is the number of units in a second, 0 if it is more than 64 bits
// hold.
func resolution(v byte) uint64 {
	exponent := int(v & 0x7f)
	if v&0x80 != 0 {
		if exponent > 63 {
			return 0
		}
		return 1 << exponent
	}
	if exponent > 19 {
		return 0
	}
	units := uint64(1)
	for range exponent {
		units *= 10
	}
	return units
}

// packet reads an enhanced packet block, or the obsolete one, which differs in
// its first four bytes: interface and drop count, 16 bits each.
func (r *ngReader) packet(kind uint32, body []byte) (record, error) {
	if len(body) < 20 {
		return record{}, errors.New("pcapng packet block cut short")
	}
	n := r.order.Uint32(body)
	if kind == ngPacket {
		n = uint32(r.order.Uint16(body))
	}
	if int64(n) >= int64(len(r.ifaces)) {
		return record{}, fmt.Errorf("pcapng packet of interface %d, of %d", n, len(r.ifaces))
	}
	i := r.ifaces[n]
	stamp := uint64(r.order.Uint32(body[4:]))<<32 | uint64(r.order.Uint32(body[8:]))
	return r.record(i, i.time(stamp), body[20:], r.order.Uint32(body[12:]), r.order.Uint32(body[16:]))
}

// simple reads a simple packet block: no time, the first interface, and as many
// bytes as its snapshot length allows.
func (r *ngReader) simple(body []byte) (record, error) {
	if len(body) < 4 || len(r.ifaces) == 0 {
		return record{}, errors.New("pcapng simple packet block without length or interface")
	}
	i := r.ifaces[0]
	wire := r.order.Uint32(body)
	captured := wire
	if i.snaplen > 0 {
		captured = min(captured, i.snaplen)
	}
	return r.record(i, time.Time{}, body[4:], captured, wire)
}

// record checks a packet's lengths.
func (r *ngReader) record(i ngIface, t time.Time, data []byte, captured, wire uint32) (record, error) {
	if int64(captured) > int64(len(data)) || captured > maxRecord {
		return record{}, fmt.Errorf("pcapng packet of %d bytes in a block of %d", captured, len(data))
	}
	return record{time: t, link: i.link, data: data[:captured:captured], wire: int(wire)}, nil
}

// time is the wall time of a timestamp.
func (i ngIface) time(stamp uint64) time.Time {
	hi, lo := bits.Mul64(stamp%i.units, 1e9)
	nanos, _ := bits.Div64(hi, lo, i.units) // hi < units, because the remainder is
	return time.Unix(int64(stamp/i.units)+i.offset, int64(nanos)).UTC()
}
