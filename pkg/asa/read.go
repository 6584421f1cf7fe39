package asa

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// statement is one line of the file that is not empty and no comment.
type statement struct {
	line     int
	text     string   // without the blanks around it
	words    []string // without a leading `no`
	no       bool
	indented bool
	heading  string // the word that counts it if nothing here reads it
	taken    bool   // it was read, or is a Finding
}

// word returns a word in lower case, empty behind the last one.
func (s *statement) word(i int) string { return strings.ToLower(s.arg(i)) }

// arg returns a word as it stands, empty behind the last one.
func (s *statement) arg(i int) string {
	if i < len(s.words) {
		return s.words[i]
	}
	return ""
}

// importer holds what has been read so far.
type importer struct {
	file       string
	indented   bool // the file indents lines, so that the others begin something new
	ctx        context
	heading    string // first word of the line that began the context
	statements []*statement

	names      map[string]netip.Addr
	objects    map[string]*object
	lists      map[string]*list
	classMaps  map[string]*classMap
	policyMaps []*policyMap
	byName     map[string]*policyMap
	services   []*statement
	statics    []*statement // static, nat ... source static
	nats       []objectNAT
	fixups     []*statement // fixup protocol smtp
	interfaces []string
	unnamed    []string   // of a piece of a configuration, which has no nameif
	kept       []keptLine // for policy.conf

	object   *object    // the one whose lines are being read
	classMap *classMap  // likewise
	policyAt *policyMap // likewise
	use      *use       // likewise
	hardware *statement // likewise, an interface

	mapped    []Mapping
	taken     reserved    // by mapped
	unchanged []unchanged // what is mapped to itself
	exempts   []Exempt
	pairs     map[netip.Prefix]*pair
	warnings  []Finding
	lost      []Finding
}

// newImporter returns an importer for the file of that name.
func newImporter(file string) *importer {
	return &importer{
		file: file, names: map[string]netip.Addr{}, objects: map[string]*object{}, lists: map[string]*list{},
		classMaps: map[string]*classMap{}, byName: map[string]*policyMap{}, pairs: map[netip.Prefix]*pair{},
		taken: reserved{map[netip.Prefix]int{}, map[netip.Prefix]int{}, nil},
	}
}

// context is what a line belongs to. As indentation may be lost, a line belongs
// to the innermost open context that knows its first word.
type context uint8

// The contexts.
const (
	atTop context = iota
	inInterface
	inClassMap
	inPolicyMap
	inClass // of inPolicyMap
	inObject
	inText  // lines that policy.conf has too
	inOther // a part of the ASA that we have not
)

// around is the context that holds each context.
var around = [...]context{inClass: inPolicyMap, inOther: atTop}

// commands are the first words that each context knows, and what reads them.
var commands = map[context]map[string]func(*importer, *statement){
	atTop: {
		"name": (*importer).readName, "names": (*importer).take, "object": (*importer).readObject,
		"access-list": (*importer).readList, "static": (*importer).readStatic, "nat": (*importer).readNAT,
		"class-map": (*importer).readClassMap, "policy-map": (*importer).readPolicyMap,
		"service-policy": (*importer).readService, "fixup": (*importer).readFixup,
		"interface": (*importer).readInterface, "nameif": (*importer).readNameif,
		"regex": (*importer).readHeading, "tcp-map": (*importer).readHeading,
	},
	inInterface: {"nameif": (*importer).readNameif},
	inClassMap:  {"match": (*importer).readMatch, "description": (*importer).take},
	inPolicyMap: {"class": (*importer).readClass, "description": (*importer).take},
	inClass:     {"inspect": (*importer).readInspect, "set": (*importer).readSet},
	inObject: {
		"host": (*importer).readObjectAddress, "subnet": (*importer).readObjectAddress, "range": (*importer).readObjectAddress,
		"fqdn": (*importer).readObjectAddress, "nat": (*importer).readNAT, "description": (*importer).take,
	},
}

// read reads all lines. A byte order mark and CR LF line ends are an editor's
// doing and mean nothing.
func (im *importer) read(text string) {
	text = strings.TrimPrefix(text, "\ufeff")
	for l := range strings.Lines(text) {
		im.indented = im.indented || strings.Trim(l, " \t\r\n") != "" && strings.IndexAny(l, " \t") == 0
	}
	number := 0
	for l := range strings.Lines(text) {
		number++
		im.line(number, strings.TrimRight(l, "\r\n"))
	}
}

// line reads one line. `!` and `:` begin comments on an ASA.
func (im *importer) line(number int, text string) {
	s := &statement{line: number, text: strings.Trim(text, " \t"), indented: strings.IndexAny(text, " \t") == 0}
	switch {
	case s.text == "" || s.text[0] == '!' || s.text[0] == ':':
		return
	case len(text) > maxLine:
		im.lose(s, fmt.Sprintf("longer than %d bytes", maxLine))
		return
	case strings.ContainsFunc(s.text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		im.lose(s, "control characters in it")
		return
	}
	s.words = strings.FieldsFunc(s.text, func(r rune) bool { return r == ' ' || r == '\t' })
	if s.no = s.word(0) == "no" && len(s.words) > 1; s.no {
		s.words = s.words[1:]
	}
	im.statements = append(im.statements, s)
	im.statement(s)
}

// statement gives a line to what reads it.
func (im *importer) statement(s *statement) {
	s.heading = s.arg(0)
	for ctx := im.ctx; ; ctx = around[ctx] {
		if read := commands[ctx][s.word(0)]; read != nil {
			im.ctx = ctx
			if ctx == atTop {
				im.heading = s.heading
			}
			read(im, s)
			return
		}
		if ctx == atTop {
			break
		}
	}
	within := s.indented || !im.indented
	switch {
	case im.ctx == inText && within:
		im.readText(s)
	case !within:
		im.ctx, im.heading = inOther, s.heading
	case s.indented:
		s.heading = im.heading // it is counted with what it belongs to
	}
}

// take marks a line as read, or as one that changes nothing.
func (im *importer) take(s *statement) { s.taken = true }

// warn notes that a line is carried over, but not exactly.
func (im *importer) warn(s *statement, reason string) {
	im.take(s)
	im.warnings = append(im.warnings, Finding{s.line, printable(s.text), reason})
}

// lose notes that a line is not carried over.
func (im *importer) lose(s *statement, reason string) {
	im.take(s)
	im.lost = append(im.lost, Finding{s.line, printable(s.text), reason})
}

// sorted puts findings into the order of the file.
func sorted(fs []Finding) []Finding {
	slices.SortStableFunc(fs, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return fs
}

// maxOthers bounds the list of Others: a file that is no configuration begins
// each line with another word.
const maxOthers = 100

// others counts the lines that nothing here reads.
func (im *importer) others() (all []Other) {
	at := map[string]int{}
	for _, s := range im.statements {
		if s.taken {
			continue
		}
		word := printable(s.heading)
		i, known := at[word]
		if !known && len(all) >= maxOthers {
			word = "and others"
			i, known = at[word]
		}
		if !known {
			i = len(all)
			at[word] = i
			all = append(all, Other{Word: word, First: s.line})
		}
		all[i].Count++
	}
	return all
}

// readInterface reads `interface HARDWARE`.
func (im *importer) readInterface(s *statement) {
	im.ctx, im.hardware = inInterface, s
}

// readNameif reads `nameif NAME` of an interface and a PIX's `nameif HARDWARE NAME
// security0`. The kernel has other names for its interfaces, which only the
// operator knows.
func (im *importer) readNameif(s *statement) {
	hardware, name := s.arg(1), s.arg(2)
	if im.ctx == inInterface && len(s.words) == 2 {
		hardware, name = im.hardware.arg(1), s.arg(1)
	}
	if s.no || name == "" {
		return
	}
	im.lose(s, fmt.Sprintf("policy.conf needs the kernel's name of %s: a comment in it shows where", printable(hardware)))
	if len(im.interfaces) < maxElements {
		im.interfaces = append(im.interfaces, fmt.Sprintf("! interface KERNEL-NAME-OF-%s\n!  nameif %s\n", printable(hardware), printable(name)))
	}
}
