package main

import (
	"strings"
	"testing"
)

const head = "day,region,product,quantity,price\n"

func TestRun(t *testing.T) {
	in := head +
		"2020-01-01,North,bell,2,150\n" +
		"2020-01-02,North,bell,1,100\n" +
		"2020-01-02,\"South, far\",ink,3,1000\n" +
		"2020-01-03,North,ink,1,5\n"
	want := "region,product,rows,quantity,revenue,mean_price,low,high\n" +
		"\"South, far\",ink,1,3,30.00,10.00,10.00,10.00\n" +
		"North,bell,2,3,4.00,1.33,1.00,1.50\n" +
		"North,ink,1,1,0.05,0.05,0.05,0.05\n" +
		"all,all,4,7,34.05,4.86,0.05,10.00\n"
	var b strings.Builder
	if err := run(strings.NewReader(in), &b); err != nil || b.String() != want {
		t.Errorf("found %v, %q, wanted %q", err, b.String(), want)
	}
}

func TestNoRows(t *testing.T) {
	var b strings.Builder
	err := run(strings.NewReader(head), &b)
	want := "region,product,rows,quantity,revenue,mean_price,low,high\nall,all,0,0,0.00,0.00,0.00,0.00\n"
	if err != nil || b.String() != want {
		t.Errorf("found %v, %q, wanted %q", err, b.String(), want)
	}
}

func TestRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"nothing at all":   {"", "header"},
		"another header":   {"a,b,c,d,e\n", "wanted"},
		"too few fields":   {head + "1,2,3\n", "line 2"},
		"quantity no word": {head + "d,r,p,x,1\n", "line 2: quantity"},
		"negative price":   {head + "d,r,p,1,-1\n", "line 2: price"},
		"price too great":  {head + "d,r,p,1,2147483648\n", "line 2: price"},
		"sum too great":    {head + strings.Repeat("d,r,p,2147483647,2147483647\n", 3), "line 4: a sum"},
	} {
		var b strings.Builder
		err := run(strings.NewReader(tt.in), &b)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: found %v, wanted something with %q", name, err, tt.want)
		}
	}
}
