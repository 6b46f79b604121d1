//go:build js && wasm

// The verifier page's program: it gives the page one function, donjonJudge, and waits.
package main

import (
	"encoding/json"
	"syscall/js"
	"time"

	"github.com/donjon-tee/donjon/web/verifier"
)

func main() {
	var judge verifier.Judge
	js.Global().Set("donjonJudge", js.FuncOf(func(_ js.Value, args []js.Value) any {
		out, err := json.Marshal(judge.Judge(input(args)))
		if err != nil {
			return `{"error":"the verdict has no form that can be shown"}`
		}
		return string(out)
	}))
	select {}
}

// input reads what page.js gives: an object with evidence (Uint8Array), policy and nonce
// (strings), collateral (array of {name, bytes}), at (milliseconds since 1970),
// platformOnly and fromKeep (booleans).
func input(args []js.Value) verifier.Input {
	o := args[0]
	in := verifier.Input{Evidence: bytesOf(o.Get("evidence")), Policy: o.Get("policy").String(), Nonce: o.Get("nonce").String(),
		At: time.UnixMilli(int64(o.Get("at").Float())), PlatformOnly: o.Get("platformOnly").Bool(), FromKeep: o.Get("fromKeep").Bool()}
	files := o.Get("collateral")
	for i := range files.Length() {
		f := files.Index(i)
		in.Collateral = append(in.Collateral, verifier.File{Name: f.Get("name").String(), Bytes: bytesOf(f.Get("bytes"))})
	}
	return in
}

func bytesOf(v js.Value) []byte {
	b := make([]byte, v.Get("length").Int())
	js.CopyBytesToGo(b, v)
	return b
}
