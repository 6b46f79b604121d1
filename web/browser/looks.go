package browser

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Contrasts is a script that gives every text on the page whose contrast with what is
// behind it is under its bound (WCAG 2.2, 1.4.3: 4.5, large text 3), and the least
// that was found.
const Contrasts = `(() => {
  const rgb = s => { const m = s.match(/^rgba?\(([^)]*)\)$/); return m ? m[1].split(/[ ,/]+/).map(Number) : null };
  const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 }); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05) };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c && (c.length < 4 || c[3] === 1)) return c; if (!c || c[3] !== 0) return null } return null };
  const out = { least: 99, texts: 0, bad: [] };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement, s = getComputedStyle(e);
    if (!n.data.trim() || !e.getClientRects().length || s.visibility === 'hidden' || e.closest('.hidden, title, script, style')) continue;
    const svg = e.closest('svg');
    const front = rgb(svg ? s.fill : s.color), back = behind(svg || e);
    const large = parseFloat(s.fontSize) >= 24 || parseFloat(s.fontSize) >= 18.66 && parseInt(s.fontWeight) >= 700;
    const r = front && back ? ratio(front, back) : 0;
    out.texts++; out.least = Math.min(out.least, r);
    if (r < (large ? 3 : 4.5)) out.bad.push(r.toFixed(2) + ' ' + n.data.trim().slice(0, 40));
  }
  return out;
})()`

// Focus says what has the keyboard's focus, and whether that can be seen.
const Focus = `(() => { const e = document.activeElement, s = getComputedStyle(e);
  return { tag: e.tagName, id: e.id, text: (e.innerText || e.getAttribute('aria-label') || '').trim().slice(0, 60), href: e.getAttribute('href') || '',
    seen: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 } })()`

// Focused is what has it.
type Focused struct {
	Tag, ID, Text, Href string
	Seen                bool
}

// TabTo presses Tab until what is wanted has the focus.
func (b *Browser) TabTo(what string, is func(Focused) bool) {
	b.T.Helper()
	for range 60 {
		b.Key("Tab")
		var f Focused
		b.Eval(Focus, &f)
		if f.Tag != "BODY" && !f.Seen {
			b.T.Errorf("the focus on %s %q cannot be seen", f.Tag, f.Text+f.ID)
		}
		if is(f) {
			return
		}
	}
	b.T.Fatalf("the keyboard does not reach %s", what)
}

// Quiet fails the test where the page has complained.
func (b *Browser) Quiet(name string) {
	b.T.Helper()
	if got := b.Complaints(); len(got) > 0 {
		b.T.Errorf("%s: the browser complains: %s", name, strings.Join(got, "; "))
	}
}

// EveryScreen looks at the page that is open on a phone and on a desk, light and dark.
func (b *Browser) EveryScreen(name string) {
	b.T.Helper()
	shots := map[string][]byte{}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{360, 1200} {
			b.Screen(width, 900, scheme)
			b.Eval(`document.querySelectorAll('details').forEach(d => d.open = `+map[bool]string{true: "true", false: "false"}[width == 360]+`)`, nil)
			var wide struct {
				Page  int
				Which []string
			}
			b.Eval(`({page: document.documentElement.scrollWidth, which: [...document.querySelectorAll('body *')].filter(e => !e.closest('.hidden, thead, svg') && e.getBoundingClientRect().right > `+strconv.Itoa(width)+` + 0.5).slice(0, 5).map(e => e.tagName + '.' + e.className)})`, &wide)
			if wide.Page > width || len(wide.Which) > 0 {
				b.T.Errorf("%s at %d: the page is %d wide: %v", name, width, wide.Page, wide.Which)
			}
			var c struct {
				Least float64
				Texts int
				Bad   []string
			}
			b.Eval(Contrasts, &c)
			if len(c.Bad) > 0 || c.Texts < 5 {
				b.T.Errorf("%s, %s, %d: of %d texts these have too little contrast: %q", name, scheme, width, c.Texts, c.Bad)
			}
			if width == 1200 || os.Getenv("DONJON_WEB_SHOTS") != "" {
				shots[scheme] = b.Shot(name + "-" + scheme + map[int]string{360: "-phone"}[width])
			}
		}
	}
	if bytes.Equal(shots["light"], shots["dark"]) {
		b.T.Errorf("%s: light and dark look the same", name)
	}
	b.Screen(1200, 900, "light")
}
