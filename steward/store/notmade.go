package store

import (
	"errors"
	"fmt"
)

// NotMade is Agree's answer where every row is as the audit log says, and the MACs of some
// could not be checked, because their keys are not here or cannot be had: whoever writes
// the database, and adds to the log, can have made those.
type NotMade struct{ Policies, Tokens int }

func (n *NotMade) Error() string {
	return fmt.Sprintf("store: the MACs of %d policies and %d tokens could not be checked: the keys that they are to be under are not here, or cannot be used", n.Policies, n.Tokens)
}

// asError is n where there is anything in it.
func (n *NotMade) asError() error {
	if *n == (NotMade{}) {
		return nil
	}
	return n
}

// unchecked gives the policy also where only its MAC could not be checked.
func unchecked(p *Policy, err error) (*Policy, error) {
	var u uncheckedPolicy
	if errors.As(err, &u) {
		return &u.policy, nil
	}
	return p, err
}

// unchecked counts them.
func (l *said) unchecked(p *Policy, err error) (*Policy, error) {
	got, after := unchecked(p, err)
	if err != nil && after == nil {
		l.notMade.Policies++
	}
	return got, after
}
