package enrol

// Enarx are the rules of the endpoint in Enarx's form.
type Enarx struct{ AllowKVM bool }

// Parse reads the rules.
func (e *Enarx) Parse([]byte) error { return nil }
