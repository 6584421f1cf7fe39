package netns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// modernPolicy is the shipped policy file with the one word changed that selects
// the other map.
func modernPolicy(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(nftDir, "policy.conf"))
	if err != nil {
		t.Fatal(err)
	}
	const classic = "\n  inspect esmtp _default_esmtp_map\n"
	if n := strings.Count(string(text), classic); n != 1 {
		t.Fatalf("nft/policy.conf has %q %d times, want once", classic, n)
	}
	return strings.Replace(string(text), classic, "\n  inspect esmtp modern_esmtp_map\n", 1)
}

// Under the modern map Postfix takes a message in chunks, with the next
// transaction in the packet of the last one, and a chunk that it refuses.
func TestMTAChunks(t *testing.T) {
	w := newWall(t, lab.Options{}, modernPolicy(t))
	p := newPostfix(t, w.Lab)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			c := dialMTA(t, w.Lab, f.server)
			var got []string
			for _, turn := range []struct {
				say     string
				replies int
			}{
				{"", 1},
				{"EHLO client.example.org\r\n", 1},
				{"BDAT 6\r\nQUIT\r\n", 1},
				{"RSET\r\n", 1}, // Postfix takes no MAIL behind a chunk
				{"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nBDAT 16\r\nSubject: one\r\n\r\nNOOP\r\n", 4},
				{"BDAT 3\r\n.\r\n", 1},
				{"BDAT 0 LAST\r\nMAIL FROM:<alice@example.org>\r\n", 2},
				{"STARTTLS\r\n", 1},
			} {
				write(t, c, turn.say)
				for range turn.replies {
					got = append(got, variable.ReplaceAllString(c.reply(t), "..."))
				}
			}
			want := []string{
				"220 mx20.example.net ESMTP Postfix", "250 CHUNKING",
				"503 5.5.1 Error: need RCPT command",
				"250 2.0.0 Ok",
				"250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.0.0 Ok: 16 bytes", "250 2.0.0 Ok",
				"250 2.0.0 Ok: 3 bytes",
				"250 2.0.0 Ok: 19 bytes ...", "250 2.1.0 Ok",
				"220 2.0.0 Ready to start TLS",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("replies: want (-), got (+):\n%s", diff)
			}
			if text := p.takeMail(t); !strings.HasSuffix(text, "\nSubject: one\n\n.\n\n\n") && !strings.HasSuffix(text, "\nSubject: one\n\n.\n") {
				t.Errorf("delivered was\n%q", text)
			}
		})
	}
}
