package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
)

func customers(from, to int, cents uint64) table {
	t := table{}
	for i := from; i < to; i++ {
		t[fmt.Sprintf("c%03d", i)] = cents
	}
	return t
}

// Both sides are told the same, over a pipe in the place of the attested connection.
func TestExchange(t *testing.T) {
	for _, c := range []struct {
		a, b table
		want string
	}{
		{customers(0, 30, 101), customers(10, 50, 7), "customers in common: 20\nspent by them, both together: 21.60\n"},
		{customers(0, 30, 1), customers(20, 50, 1), "customers in common: 10\nspent by them, both together: 0.20\n"},
		{customers(0, 30, 1), customers(21, 50, 1), "fewer than 10 customers in common\n"},
		{table{}, table{}, "fewer than 10 customers in common\n"},
	} {
		x, y := net.Pipe()
		got := make(chan string, 2)
		go func() {
			s, err := bob(y, c.b)
			got <- fmt.Sprint(s, err)
		}()
		s, err := alice(x, c.a)
		if other := <-got; s != c.want || err != nil || other != c.want+"<nil>" {
			t.Errorf("found %q, %v and %q, wanted %q", s, err, other, c.want)
		}
	}
}

func TestTables(t *testing.T) {
	got, err := readTable(strings.NewReader("a,1\nb,2\na,3\n"))
	if err != nil || len(got) != 2 || got["a"] != 4 {
		t.Errorf("found %v, %v", got, err)
	}
	var b bytes.Buffer
	if err := got.write(&b); err != nil || b.String() != "a,4\nb,2\n" {
		t.Errorf("found %q, %v", b.String(), err)
	}
	for _, bad := range []string{"a\n", ",1\n", "a,\n", "a,-1\n", "a,1.5\n", "a,99999999999999\n", strings.Repeat("x", 1<<17)} {
		if got, err := readTable(strings.NewReader(bad)); err == nil {
			t.Errorf("%.20q: found %v", bad, got)
		}
	}
}

func TestFramesAreBounded(t *testing.T) {
	for _, bad := range []string{"", "5", "5\nabc", "x\n", "-1\n", "99999999\n", strings.Repeat("1", 5000)} {
		x, y := net.Pipe()
		go func() { _, _ = y.Write([]byte(bad)); _ = y.Close() }()
		if s, err := alice(x, table{}); err == nil {
			t.Errorf("%.20q: found %q", bad, s)
		}
	}
}

// One table, one result.
func TestDesk(t *testing.T) {
	d := &desk{given: make(chan table, 1)}
	go func() { <-d.given; d.finish("the result\n", nil) }()
	post := func(body string) (int, string) {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	if code, _ := post("nonsense"); code != 400 {
		t.Errorf("found %d", code)
	}
	if code, body := post("a,1\n"); code != 200 || body != "the result\n" {
		t.Errorf("found %d, %q", code, body)
	}
	if code, body := post("b,1\n"); code != 409 {
		t.Errorf("found %d, %q", code, body)
	}
}
