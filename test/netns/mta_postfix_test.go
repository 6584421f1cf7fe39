package netns

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// postfixMaster is the daemon of Debian's package, as scripts/packages.txt has it.
const postfixMaster = "/usr/lib/postfix/sbin/master"

// postfix is a real smtpd on the lab's server, with everything but its programs
// in a directory of its own.
type postfix struct {
	dir string
	log *logBuffer
}

// newPostfix starts Postfix for example.net and stops it when the test ends. It
// offers STARTTLS, AUTH, and XCLIENT to the lab's client.
func newPostfix(t *testing.T, l *lab.Lab) *postfix {
	t.Helper()
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatalf("%v: run `make deps`, which installs scripts/packages.txt", err)
	}
	p := &postfix{dir: openDir(t), log: newLogBuffer("daemon started")}
	p.makeFiles(t, owner)
	if out, err := exec.Command("postfix", "-c", p.path("etc"), "check").CombinedOutput(); err != nil {
		t.Fatalf("postfix check: %v: %s", err, out)
	}
	master := l.Command(lab.Server, postfixMaster, "-c", p.path("etc"), "-s")
	master.Stdout, master.Stderr = p.log, p.log
	startProgram(t, master, p.log)
	return p
}

// startProgram starts a program and waits until it says the word that log waits for.
// SIGTERM ends it with the test.
func startProgram(t *testing.T, program *exec.Cmd, log *logBuffer) {
	t.Helper()
	if err := program.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	end := make(chan error, 1)
	go func() { end <- program.Wait() }()
	t.Cleanup(func() {
		_ = program.Process.Signal(syscall.SIGTERM)
		select {
		case <-end:
		case <-time.After(liveTimeout):
			_ = program.Process.Kill()
			t.Errorf("%s does not stop:\n%s", program, log)
		}
	})
	select {
	case <-log.found:
	case err := <-end:
		end <- err
		t.Fatalf("%s ended: %v\n%s", program, err, log)
	case <-time.After(liveTimeout):
		t.Fatalf("%s did not say %q:\n%s", program, log.word, log)
	}
}

// openDir makes a directory that other users may enter, unlike t.TempDir.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "smtpwall-mta-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// path is a path in Postfix' directory.
func (p *postfix) path(name string) string { return filepath.Join(p.dir, name) }

// makeFiles writes the configuration and makes the directories.
func (p *postfix) makeFiles(t *testing.T, owner *user.User) {
	t.Helper()
	for _, dir := range []string{"etc", "queue", "data", "mail"} {
		if err := os.Mkdir(p.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"data", "mail"} {
		if out, err := exec.Command("chown", owner.Uid, p.path(dir)).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v: %s", err, out)
		}
	}
	p.authenticate(t)
	expand := strings.NewReplacer("DIR", p.dir, "UID", owner.Uid, "GID", owner.Gid)
	for name, text := range map[string]string{
		"etc/main.cf":   expand.Replace(mainCF),
		"etc/master.cf": masterCF,
		"etc/key.pem":   pemOf(t, selfSigned(t)),
	} {
		if err := os.WriteFile(p.path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// mainCF and masterCF are Postfix' configuration: what its package would start,
// without chroot and local delivery, and mail for anybody at example.net into
// one mailbox.
const (
	mainCF = `compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
maillog_file = /dev/stdout
myhostname = mx20.example.net
mydestination =
inet_protocols = all
smtpd_peername_lookup = no
message_size_limit = 30000000
smtpd_authorized_xclient_hosts = 10.9.1.0/24, [fd09:1::]/64
smtpd_tls_chain_files = DIR/etc/key.pem
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = DIR/auth.sock
virtual_mailbox_domains = example.net
virtual_mailbox_base = DIR/mail
virtual_mailbox_maps = static:inbox/
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:UID
virtual_gid_maps = static:GID
alias_maps =
`
	masterCF = `smtp inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`
)

// pemOf is key and certificate as Postfix reads them.
func pemOf(t *testing.T, c tls.Certificate) string {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, block := range []*pem.Block{{Type: "PRIVATE KEY", Bytes: key}, {Type: "CERTIFICATE", Bytes: c.Certificate[0]}} {
		if err := pem.Encode(&b, block); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// loginUser and loginPassword are what Postfix takes.
const loginUser, loginPassword = "alice", "secret"

// authenticate is what Postfix asks about passwords: a server of Dovecot's
// authentication protocol, version 1, that knows LOGIN and one user.
func (p *postfix) authenticate(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("unix", p.path("auth.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	if err := os.Chmod(p.path("auth.sock"), 0o666); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go answerLogins(conn)
		}
	}()
}

// answerLogins serves one smtpd.
func answerLogins(conn net.Conn) {
	defer conn.Close()
	fmt.Fprint(conn, "VERSION\t1\t1\nMECH\tLOGIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0\nDONE\n")
	var user string
	for s := bufio.NewScanner(conn); s.Scan(); {
		field := strings.Split(s.Text(), "\t")
		switch {
		case field[0] == "AUTH" && len(field) > 1:
			user = ""
			fmt.Fprintf(conn, "CONT\t%s\t%s\n", field[1], base64.StdEncoding.EncodeToString([]byte("Username:")))
		case field[0] != "CONT" || len(field) < 3:
		case user == "":
			user = decoded(field[2])
			fmt.Fprintf(conn, "CONT\t%s\t%s\n", field[1], base64.StdEncoding.EncodeToString([]byte("Password:")))
		case user == loginUser && decoded(field[2]) == loginPassword:
			fmt.Fprintf(conn, "OK\t%s\tuser=%s\n", field[1], user)
		default:
			fmt.Fprintf(conn, "FAIL\t%s\tuser=%s\n", field[1], user)
		}
	}
}

// decoded is a text in base64, empty if it is none.
func decoded(text string) string {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	return string(b)
}

// awaitLog waits until Postfix has said text, in what it said behind the first
// from bytes.
func (p *postfix) awaitLog(t *testing.T, from int, text string) {
	t.Helper()
	eventually(t, "Postfix says "+text, func() bool { return strings.Contains(p.log.String()[from:], text) })
}

// takeMail waits for one message in the mailbox, takes it out and returns it.
func (p *postfix) takeMail(t *testing.T) string {
	t.Helper()
	var files []string
	eventually(t, "mail is delivered", func() bool {
		files, _ = filepath.Glob(p.path("mail/inbox/new/*"))
		return len(files) > 0
	})
	if len(files) > 1 {
		t.Fatalf("%d messages were delivered, want one", len(files))
	}
	text, err := os.ReadFile(files[0])
	if err := errors.Join(err, os.Remove(files[0])); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
