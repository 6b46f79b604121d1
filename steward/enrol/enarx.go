package enrol

// Enarx are the rules of the endpoint in Enarx's form.
type Enarx struct{}
