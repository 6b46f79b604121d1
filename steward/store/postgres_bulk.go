package store

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ask sends all questions before it waits for the first answer.
func (d postgresDialect) ask(ctx context.Context, t *tx, qs []question) error {
	b := &pgx.Batch{}
	for _, q := range qs {
		asked := b.Queue(d.rewrite(q.sql), q.args...)
		if q.row == nil {
			continue
		}
		asked.Query(func(rows pgx.Rows) error {
			for rows.Next() {
				if err := q.row(rows.Scan); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	}
	return t.fail(raw(t.conn, func(p *pgx.Conn) error { return p.SendBatch(ctx, b).Close() }))
}

// bulk sends all statements before it waits for the first answer. Of rows that go into
// one table it makes one statement: most of what an INSERT costs PostgreSQL is not the
// row.
func (d postgresDialect) bulk(ctx context.Context, t *tx, ss []statement) error {
	if len(ss) == 0 {
		return nil
	}
	return t.fail(raw(t.conn, func(p *pgx.Conn) error { return p.SendBatch(ctx, d.batch(ss)).Close() }))
}

// finish sends the COMMIT with the statements: where one of them fails the server runs
// nothing behind it. An error that ends the connection may be a pooler's, which does not
// say what the server has run.
func (d postgresDialect) finish(ctx context.Context, t *tx, ss []statement) (sure bool, err error) {
	b := d.batch(ss)
	b.Queue("COMMIT")
	return sure, t.fail(raw(t.conn, func(p *pgx.Conn) error {
		answers := p.SendBatch(ctx, b)
		for n := range b.Len() {
			tag, err := answers.Exec()
			if err != nil {
				var its *pgconn.PgError
				sure = n < b.Len()-1 && errors.As(err, &its) && its.SeverityUnlocalized == "ERROR"
				_ = answers.Close()
				return err
			}
			if n == b.Len()-1 {
				if err := committed(tag); err != nil {
					_ = answers.Close()
					return err
				}
			}
		}
		return answers.Close()
	}))
}

func (d postgresDialect) batch(ss []statement) *pgx.Batch {
	texts := map[string]string{}
	b := &pgx.Batch{}
	for _, s := range merged(ss) {
		text, ok := texts[s.sql]
		if !ok {
			text = d.rewrite(s.sql)
			texts[s.sql] = text
		}
		b.Queue(text, s.args...)
	}
	return b
}

// plainInsert is an INSERT of one row of parameters, and nothing behind it.
var plainInsert = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(INSERT INTO [a-z_]+ \([a-z_, ]+\)) VALUES \(\?(?:, \?)*\)$`)
})

// insertRun is a run of statements with the same text.
type insertRun struct {
	head string // INSERT INTO table (columns); "": it is not one of one row
	list []statement
}

// merged makes one statement of each text's INSERTs that stand between the same others:
// among themselves they may change places, since each puts a row of its own.
func merged(ss []statement) []statement {
	var out []statement
	var run []*insertRun
	at := map[string]*insertRun{}
	flush := func() {
		for _, r := range run {
			if s, ok := r.one(); ok {
				out = append(out, s)
			} else {
				out = append(out, r.list...)
			}
		}
		run = run[:0]
		clear(at)
	}
	heads := map[string]string{}
	for _, s := range ss {
		head, known := heads[s.sql]
		if !known {
			if m := plainInsert().FindStringSubmatch(s.sql); m != nil {
				head = m[1]
			}
			heads[s.sql] = head
		}
		if head == "" {
			flush()
			out = append(out, s)
			continue
		}
		r := at[s.sql]
		if r == nil {
			r = &insertRun{head: head}
			at[s.sql] = r
			run = append(run, r)
		}
		r.list = append(r.list, s)
	}
	flush()
	return out
}

// one makes a statement with an array for each column; not where a column has values of
// several types, or one that it does not know.
func (r *insertRun) one() (statement, bool) {
	if len(r.list) < 2 {
		return statement{}, false
	}
	var text strings.Builder
	text.WriteString(r.head + " SELECT * FROM unnest(")
	args := make([]any, len(r.list[0].args))
	for i := range args {
		var ok bool
		kind := ""
		switch r.list[0].args[i].(type) {
		case int64:
			args[i], ok = column[int64](r.list, i)
			kind = "bigint[]"
		case string:
			args[i], ok = column[string](r.list, i)
			kind = "text[]"
		case []byte:
			args[i], ok = column[[]byte](r.list, i)
			kind = "bytea[]"
		}
		if !ok {
			return statement{}, false
		}
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString("$" + strconv.Itoa(i+1) + "::" + kind)
	}
	text.WriteString(")")
	return statement{text.String(), args}, true
}

func column[T any](list []statement, i int) ([]T, bool) {
	out := make([]T, len(list))
	for n, s := range list {
		v, ok := s.args[i].(T)
		if !ok {
			return nil, false
		}
		out[n] = v
	}
	return out, true
}
