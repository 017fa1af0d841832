// Porcupine's opinion of a history: reads the JSON lines that `sim --history` writes and searches,
// name by name, for an order of the operations that a lock could have answered so. The model is
// written anew here, from docs/semantics.md; it shares nothing with the simulator's own checkers
// but the file format (tests/sim/history.h).
//
// What Porcupine has no notion of is made an operation of its own: an operation never answered, the
// end of a lease, the end of a bounded wait may each take effect or not, at any time after a given
// moment. They end after everything else, and their model has two outcomes: it happened, or it did
// not.
//
//	porcupine FILE...        one line a file: its name, and linearizable, not_linearizable or undecided
//
// Exit status: 0 if every file was judged as its second line asks ("# refused by: ... linear ...";
// without that line: linearizable), 1 if not, 2 if a file cannot be read.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	statusOK         = 0
	statusQueued     = 1
	statusNotHolder  = 6
	statusWouldBlock = 7
	statusNoSession  = 17
	statusStale      = 18
	never            = int64(1) << 62
	searchLimit      = 20 * time.Second
	longest          = 3000 // operations of a name: beyond that the search is not begun
)

type record struct {
	Kind         string     `json:"kind"`
	Client       int        `json:"client"`
	Op           string     `json:"op"`
	Name         string     `json:"name"`
	Lease        int64      `json:"lease"`
	Token        int64      `json:"token"`
	Amount       int64      `json:"amount"`
	Invoked      int64      `json:"invoked"`
	Returned     int64      `json:"returned"`
	Status       int        `json:"status"`
	AnswerToken  int64      `json:"answer_token"`
	AnswerAmount int64      `json:"answer_amount"`
	Parts        [][3]int64 `json:"parts"`
}

func (r *record) answered() bool {
	return r.Returned != 0 && r.Status != statusNoSession && r.Status != statusStale
}

// One lock. A token of 0 beside a holder is one that nobody has named yet. Never changed in place,
// since the search goes back to former ones.
type lock struct {
	holder, token, last int64
	queue               []int64
}

func equal(a, b lock) bool {
	return a.holder == b.holder && a.token == b.token && a.last == b.last &&
		slices.Equal(a.queue, b.queue)
}

func (l lock) without(lease int64) lock {
	at := slices.Index(l.queue, lease)
	if at >= 0 {
		l.queue = slices.Delete(slices.Clone(l.queue), at, at+1)
	}
	return l
}

// The holder is gone; the first in the queue is the next. Those whose lease or wait is over have
// left by an operation of their own.
func (l lock) next() lock {
	l.holder, l.token = 0, 0
	if len(l.queue) > 0 {
		l.holder = l.queue[0]
		l.queue = slices.Clone(l.queue[1:])
	}
	return l
}

func (l lock) end(lease int64) lock {
	l = l.without(lease)
	if l.holder == lease {
		l = l.next()
	}
	return l
}

// The holder's token is this one, as far as is known.
func (l lock) named(token int64) (lock, bool) {
	if l.holder == 0 {
		return l, false
	}
	if l.token != 0 {
		return l, l.token == token
	}
	if token <= l.last {
		return l, false
	}
	l.token, l.last = token, token
	return l, true
}

func acquire(l lock, r *record) (lock, bool) {
	switch r.Status {
	case statusOK:
		if l.holder == 0 {
			if r.AnswerToken <= l.last {
				return l, false
			}
			l.holder, l.token, l.last = r.Lease, r.AnswerToken, r.AnswerToken
			return l, true
		}
		if l.holder != r.Lease {
			return l, false
		}
		return l.named(r.AnswerToken)
	case statusWouldBlock:
		if l.holder == r.Lease {
			return l, false
		}
		l, well := l.named(r.AnswerToken)
		return l.without(r.Lease), well
	case statusQueued:
		if l.holder == 0 || l.holder == r.Lease {
			return l, false
		}
		if !slices.Contains(l.queue, r.Lease) {
			l.queue = append(slices.Clone(l.queue), r.Lease)
		}
	}
	return l, true
}

func read(l lock, r *record) (lock, bool) {
	switch r.Op {
	case "holders":
		if len(r.Parts) == 0 {
			return l, l.holder == 0
		}
		if l.holder != r.Parts[0][1] {
			return l, false
		}
		return l.named(r.Parts[0][2])
	case "queue":
		if r.AnswerAmount != int64(len(l.queue)) || r.Amount+int64(len(r.Parts)) > r.AnswerAmount {
			return l, false
		}
		for i, part := range r.Parts {
			if l.queue[r.Amount+int64(i)] != part[1] {
				return l, false
			}
		}
	case "claim":
		switch r.Status {
		case statusOK:
			if l.holder != r.Lease {
				return l, false
			}
			return l.named(r.AnswerToken)
		case statusQueued:
			return l, slices.Contains(l.queue, r.Lease)
		}
	}
	return l, true
}

// An operation that was answered: where it can be, and what is after it.
func certain(l lock, r *record) (lock, bool) {
	switch r.Op {
	case "acquire":
		return acquire(l, r)
	case "release":
		if r.Status == statusOK {
			l, well := l.named(r.Token)
			if well {
				l = l.next()
			}
			return l, well
		}
		return l, r.Status != statusNotHolder || l.holder == 0 || l.token != r.Token
	case "lease_revoke":
		if r.Status == statusOK {
			l = l.end(r.Lease)
		}
		return l, true
	}
	return read(l, r)
}

// One that may have happened: what is after it if it did.
func possible(l lock, r *record) lock {
	switch r.Op {
	case "acquire":
		if l.holder == r.Lease {
			return l
		}
		if l.holder == 0 {
			l.holder, l.token = r.Lease, 0
			return l
		}
		if r.Amount == 0 {
			return l.without(r.Lease)
		}
		if !slices.Contains(l.queue, r.Lease) {
			l.queue = append(slices.Clone(l.queue), r.Lease)
		}
	case "release":
		if named, well := l.named(r.Token); well {
			return named.next()
		}
	case "timeout":
		return l.without(r.Lease)
	case "lease_revoke", "end":
		return l.end(r.Lease)
	}
	return l
}

type input struct {
	record  *record
	certain bool
}

var model = porcupine.NondeterministicModel{
	Init: func() []interface{} { return []interface{}{lock{}} },
	Step: func(state, in, out interface{}) []interface{} {
		before, asked := state.(lock), in.(input)
		if asked.certain {
			if after, well := certain(before, asked.record); well {
				return []interface{}{after}
			}
			return nil
		}
		after := possible(before, asked.record)
		if equal(before, after) {
			return []interface{}{before}
		}
		return []interface{}{before, after}
	},
	Equal: func(a, b interface{}) bool { return equal(a.(lock), b.(lock)) },
}

// ---------------------------------------------------------------- a file

func load(path string) (records []record, refused bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text := lines.Text()
		if words, found := strings.CutPrefix(text, "# refused by:"); found {
			refused = slices.Contains(strings.Fields(words), "linear")
		}
		if strings.HasPrefix(text, "#") {
			continue
		}
		var r record
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return nil, false, err
		}
		if r.Kind == "operation" && r.Op != "event" {
			records = append(records, r)
		}
	}
	return records, refused, lines.Err()
}

// When a lease can first end by itself: its TTL after its last acknowledged renewal was asked for.
func ends(records []record) map[int64]int64 {
	end := map[int64]int64{}
	for i := range records {
		r := &records[i]
		if !r.answered() || r.Status != statusOK {
			continue
		}
		switch r.Op {
		case "lease_grant":
			end[r.AnswerToken] = r.Invoked + r.AnswerAmount*1e6
		case "lease_keepalive":
			end[r.Lease] = max(end[r.Lease], r.Invoked+r.AnswerAmount*1e6)
		}
	}
	return end
}

// The operations that concern one name.
func of(name string, records []record, end map[int64]int64) (operations []porcupine.Operation, answered int) {
	client := 0
	add := func(r *record, from int64, certain bool) {
		to := never
		if certain {
			to = r.Returned
			answered++
		}
		client++
		operations = append(operations, porcupine.Operation{
			ClientId: client, Input: input{r, certain}, Call: from, Return: to})
	}
	leases := map[int64]bool{}
	for i := range records {
		if r := &records[i]; r.Name == name && r.Op == "acquire" {
			leases[r.Lease] = true
		}
	}
	for i := range records {
		r := &records[i]
		if r.Name != name && !(r.Op == "lease_revoke" && leases[r.Lease]) {
			continue
		}
		changes := r.Op == "acquire" || r.Op == "release" || r.Op == "lease_revoke"
		if r.answered() {
			add(r, r.Invoked, true)
		} else if changes {
			add(r, r.Invoked, false)
		}
		if r.Op == "acquire" && r.Amount > 0 {
			add(&record{Op: "timeout", Lease: r.Lease}, r.Invoked+r.Amount*999000, false)
		}
	}
	for lease := range leases {
		add(&record{Op: "end", Lease: lease}, end[lease], false)
	}
	return operations, answered
}

func judge(records []record) (porcupine.CheckResult, string) {
	names := map[string]bool{}
	for i := range records {
		if records[i].Name != "" {
			names[records[i].Name] = true
		}
	}
	end := ends(records)
	result, where := porcupine.Ok, ""
	for name := range names {
		operations, answered := of(name, records, end)
		one := porcupine.Unknown
		if answered <= longest {
			one = porcupine.CheckOperationsTimeout(model.ToModel(), operations, searchLimit)
		}
		if one == porcupine.Illegal {
			return one, name
		}
		if one == porcupine.Unknown {
			result, where = one, name
		}
	}
	return result, where
}

func main() {
	wrong, undecided := 0, 0
	for _, path := range os.Args[1:] {
		records, refused, err := load(path)
		if err != nil {
			fmt.Fprintf(os.Stderr, "porcupine: %s: %v\n", path, err)
			os.Exit(2)
		}
		result, where := judge(records)
		words := map[porcupine.CheckResult]string{porcupine.Ok: "linearizable",
			porcupine.Illegal: "not_linearizable " + where, porcupine.Unknown: "undecided " + where}
		verdict := words[result]
		if result == porcupine.Unknown {
			undecided++
		} else if refused != (result == porcupine.Illegal) {
			wrong++
			verdict += "   WRONG: the simulator's checker says otherwise"
		}
		fmt.Println(path, verdict)
	}
	fmt.Printf("%d histories, %d undecided, %d judged otherwise\n", len(os.Args)-1, undecided, wrong)
	if wrong > 0 {
		os.Exit(1)
	}
}
