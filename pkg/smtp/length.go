package smtp

// The counts of a message (design.md section 5). Of its own header: the length
// of each line and of all; of the rest, part headers included, the same.

// maxUnsure is how long the beginning of a line without a colon may be before it
// counts for the header though nobody can say yet whether it is a header line:
// RFC 5322 section 2.1.1 allows no longer one. Below it, a line that turns out
// to be none counts for the body alone.
const maxUnsure = 998

// unsure reports whether nobody can say yet if the line counts for the header.
func (m *message) unsure() bool {
	return m.section == sectionHeader && m.field.state <= fieldNameBlank && m.length <= maxUnsure
}

// lineMeasure is what bounds the length of the line.
func (m *message) lineMeasure() Measure {
	if m.section == sectionHeader {
		return HeaderLineLength
	}
	return BodyLineLength
}

// sectionMeasure is what bounds the octets of the section, and how many these
// are so far.
func (m *message) sectionMeasure() (Measure, uint64) {
	if m.section == sectionHeader {
		return HeaderLength, m.octets
	}
	return BodyLength, m.octets - m.header
}

// countText counts n bytes of a line, from index i on.
func (d *Dialogue) countText(n, i int) {
	m := d.message
	line := m.lineMeasure()
	section, octets := m.sectionMeasure()
	more := uint64(n)
	if m.length+more <= d.bound(line, m.at[line]) && octets+more <= d.bound(section, m.at[section]) {
		m.length, m.octets = m.length+more, m.octets+more
		return
	}
	for ; n > 0 && !d.ended; n, i = n-1, i+1 {
		m.length++
		m.octets++
		if !m.unsure() {
			d.compareSection(i)
			d.compare(m.lineMeasure(), m.length, i)
		}
	}
}

// countBreak counts the CR or LF at index i of a line's end.
func (d *Dialogue) countBreak(i int) {
	m := d.message
	m.octets++
	if !m.unsure() {
		d.compareSection(i)
	}
}

// compareSection compares the octets of the section, up to the one at index i,
// with the bounds.
func (d *Dialogue) compareSection(i int) {
	section, octets := d.message.sectionMeasure()
	d.compare(section, octets, i)
}

// compare compares value, up to the byte at index i, with the bounds. Of a line
// that was unsure the first byte beyond may stand before i: it is told by its
// place in the line, which is wrong only where a BDAT command came between.
func (d *Dialogue) compare(measure Measure, value uint64, i int) {
	m := d.message
	for bound := d.bound(measure, m.at[measure]); value > bound && !d.ended; bound = d.bound(measure, m.at[measure]) {
		m.at[measure]++
		d.report(Fact{Kind: KindLimit, Side: Client, Measure: measure, Limit: bound, Value: bound + 1,
			Repeat: m.at[measure] <= m.noted[measure], Text: m.fieldName(measure)}, i-int(value-bound-1))
	}
}

// fieldName is the name of the header field that a bound of measure was passed
// in, as far as it is kept.
func (m *message) fieldName(measure Measure) []byte {
	if measure != HeaderLineLength && measure != HeaderLength {
		return nil
	}
	return m.field.name[:min(m.field.length, maxFieldName)]
}

// withinLine tells the length of a line that ended at index i.
func (d *Dialogue) withinLine(i int) {
	m, measure := d.message, d.message.lineMeasure()
	if !d.rules.Within[measure] {
		return
	}
	repeat := m.least[measure] > 0 && m.length+1 >= m.least[measure]
	if !repeat {
		m.least[measure] = m.length + 1
	}
	d.tell(Fact{Kind: KindWithin, Measure: measure, Value: m.length, Repeat: repeat}, i)
}

// endHeaderCount ends the message's own header at index i: that of the LF of the
// line that ended it, or of the byte that showed it to be none of the header,
// which has not been counted. The line is empty, or the first of the body.
func (d *Dialogue) endHeaderCount(i int) {
	m := d.message
	d.within(HeaderLength, m.start, Client, nil, i)
	d.within(ToFieldsCount, m.to, Client, nil, i)
	m.section, m.header = sectionBody, m.start
	if m.length == 0 {
		m.header = m.octets
		return
	}
	last := i - 1 // of the line's text
	if m.cr {
		last--
	}
	ends := m.octets - m.start - m.length // the line's CR and LF, where they have been counted
	d.compareSection(last + int(ends))
	d.compare(BodyLineLength, m.length, last)
}

// tell reports a finding of the message, unless the session is over.
func (d *Dialogue) tell(f Fact, i int) {
	if !d.ended {
		f.Side = Client
		d.report(f, i)
	}
}
