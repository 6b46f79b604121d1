package claims

import (
	"encoding/json"
	"testing"
)

func TestSVNs(t *testing.T) {
	b, err := json.Marshal(IntelPlatform{CompSVN: []uint8{0, 14, 255}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		List []int `json:"sgx_tcb_components"`
	}
	if err := json.Unmarshal(b, &got); err != nil || len(got.List) != 3 || got.List[1] != 14 || got.List[2] != 255 {
		t.Errorf("found %s, %v", b, err)
	}
	var back IntelPlatform
	if err := json.Unmarshal(b, &back); err != nil || len(back.CompSVN) != 3 || back.CompSVN[2] != 255 {
		t.Errorf("found %v, %v", back.CompSVN, err)
	}
	for _, bad := range []string{`[256]`, `[-1]`, `["a"]`, `"AA=="`, `[1.5]`} {
		var s SVNs
		if json.Unmarshal([]byte(bad), &s) == nil {
			t.Errorf("%s is read as %v", bad, s)
		}
	}
	if b, err := json.Marshal(SVNs(nil)); err != nil || string(b) != "[]" {
		t.Errorf("no SVNs: found %s, %v", b, err)
	}
}
