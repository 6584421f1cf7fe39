package nlmsg

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// message is a message of type 5 that says it is n bytes long, in this machine's
// order.
func message(n int, body string) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(n))
	b = binary.NativeEndian.AppendUint16(b, 5)
	return append(append(b, make([]byte, 10)...), body...)
}

// attribute is an attribute that says it is n bytes long.
func attribute(n int, kind uint16, value string) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(n))
	return append(binary.NativeEndian.AppendUint16(b, kind), value...)
}

// TestNext takes a message off what is one, and off nothing else.
func TestNext(t *testing.T) {
	for _, tt := range []struct {
		name       string
		datagram   []byte
		body, rest string
		ok         bool
	}{
		{"nothing", nil, "", "", false},
		{"a head that is cut", message(16, "")[:15], "", "", false},
		{"no body", message(16, ""), "", "", true},
		{"a body", message(20, "abcd"), "abcd", "", true},
		{"another behind it", message(20, "abcdnext"), "abcd", "next", true},
		{"another behind a gap", message(17, "a\x00\x00\x00next"), "a", "next", true},
		{"the gap is cut", message(17, "a\x00"), "a", "", true},
		{"shorter than its head", message(15, "abcd"), "", "", false},
		{"longer than the datagram", message(21, "abcd"), "", "", false},
		{"so long that it is below 0", message(1<<31, "abcd"), "", "", false},
	} {
		m, rest, ok := Next(tt.datagram)
		if string(m.Body) != tt.body || string(rest) != tt.rest || ok != tt.ok || ok && m.Type != 5 {
			t.Errorf("%s: type %d, body %q, rest %q, %v", tt.name, m.Type, m.Body, rest, ok)
		}
	}
}

// TestErrno reads the kernel's answers: a negative number, or 0 for success.
func TestErrno(t *testing.T) {
	number := func(n int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }
	for _, tt := range []struct {
		body []byte
		want int
		ok   bool
	}{
		{number(0), 0, true},
		{number(-2), 2, true},
		{append(number(-11), "the request"...), 11, true},
		{number(0)[:3], 0, false},
		{nil, 0, false},
	} {
		if n, ok := (Message{Type: Error, Body: tt.body}).Errno(); n != tt.want || ok != tt.ok {
			t.Errorf("%x: %d, %v", tt.body, n, ok)
		}
	}
}

// TestAttr finds attributes by their path.
func TestAttr(t *testing.T) {
	const nested = 0x8000
	inner := bytes.Join([][]byte{attribute(5, 1, "x\x00\x00\x00"), attribute(6, 2, "yz\x00\x00")}, nil)
	outer := bytes.Join([][]byte{attribute(8, 7, "abcd"), attribute(4+len(inner), 3|nested, string(inner)), attribute(4, 9, "")}, nil)
	for _, tt := range []struct {
		name string
		b    []byte
		path []uint16
		want string
		none bool
	}{
		{"the first", outer, []uint16{7}, "abcd", false},
		{"an empty one at the end", outer, []uint16{9}, "", false},
		{"one that is not there", outer, []uint16{8}, "", true},
		{"a nested one", outer, []uint16{3, 2}, "yz", false},
		{"a nested one that is not there", outer, []uint16{3, 7}, "", true},
		{"one in what has none", outer, []uint16{7, 1}, "", true},
		{"behind one shorter than its head", append(attribute(3, 1, ""), outer...), []uint16{7}, "", true},
		{"behind one longer than all", append(attribute(100, 1, ""), outer...), []uint16{7}, "", true},
		{"in nothing", nil, []uint16{1}, "", true},
		{"in a head that is cut", []byte{4, 0, 1}, []uint16{1}, "", true},
	} {
		if got := Attr(tt.b, tt.path...); string(got) != tt.want || (got == nil) != tt.none {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// TestAttrs leaves the family away, also where it is cut.
func TestAttrs(t *testing.T) {
	for body, want := range map[string]string{"": "", "fam": "", "fam!": "", "fam!rest": "rest"} {
		if got := (Message{Body: []byte(body)}).Attrs(); string(got) != want {
			t.Errorf("%q: %q", body, got)
		}
	}
}

// FuzzNext never reads beyond the end, and always gets on.
func FuzzNext(f *testing.F) {
	f.Add(message(20, "abcdnext"))
	f.Add(message(24, string(attribute(8, 3, "abcd"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			m, rest, ok := Next(b)
			if !ok {
				return
			}
			if len(rest)+len(m.Body)+HeaderLen > len(b) {
				t.Fatal("more than there was")
			}
			for attrs := m.Attrs(); ; {
				_, value, behind, ok := NextAttr(attrs)
				if !ok {
					break
				}
				if len(behind)+len(value)+AttrLen > len(attrs) {
					t.Fatal("more than there was")
				}
				attrs = behind
			}
			b = rest
		}
	})
}
