package workload
import ("testing";"strings";"time";"fmt")
func TestZZ(t *testing.T){
 for n,s:=range map[string]string{
 "dotted":strings.Repeat("a.",500000)+"a=1",
 "dtable":"["+strings.Repeat("a.",500000)+"a]",
 "env": "[env]\n"+func()string{b:=strings.Builder{};for i:=0;b.Len()<1000000;i++{fmt.Fprintf(&b,"k%d=''\n",i)};return b.String()}(),
 "files": strings.Repeat("[[files]]\n",100000),
 "filesd": strings.Repeat("[files]\n",100000),
 "inl": "files=["+strings.Repeat("{},",300000)+"]",
 "unk": func()string{b:=strings.Builder{};for i:=0;b.Len()<1000000;i++{fmt.Fprintf(&b,"k%d=''\n",i)};return b.String()}(),
 "unkt": func()string{b:=strings.Builder{};for i:=0;b.Len()<1000000;i++{fmt.Fprintf(&b,"[k%d]\n",i)};return b.String()}(),
 "q": strings.Repeat("\"\"\"\"\"\"", 170000),
 }{
  t0:=time.Now(); _,err:=ParseConfig([]byte(s)); e:=""; if err!=nil{e=err.Error(); if len(e)>100{e=e[:100]}}
  t.Log(n,time.Since(t0),len(s),e)
 }
}
