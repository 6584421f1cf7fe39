package lab

import (
	"net"
	"time"
)

// Dial connects from a host to an address with a literal IP and a port.
func (l *Lab) Dial(from Host, address string, timeout time.Duration) (conn net.Conn, err error) {
	err = l.Do(from, func() error {
		conn, err = net.DialTimeout("tcp", address, timeout)
		return err
	})
	return conn, err
}

// Listen opens a TCP listener on a host.
func (l *Lab) Listen(on Host, address string) (ln net.Listener, err error) {
	err = l.Do(on, func() error {
		ln, err = net.Listen("tcp", address)
		return err
	})
	return ln, err
}
