package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"testing"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
)

// driver sends commands and reads answers, as the real one does.
type driver struct {
	t     *testing.T
	input io.WriteCloser
	lines *bufio.Scanner
	ended chan error
}

func drive(t *testing.T, service *fake.Server, options ...tenantauth.Option) *driver {
	commands, input := io.Pipe()
	output, answers := io.Pipe()
	d := &driver{t: t, input: input, lines: bufio.NewScanner(output), ended: make(chan error, 1)}
	go func() { d.ended <- run(service.Address(), options, commands, answers) }()
	d.expect(`{"ready":true}`)
	return d
}

func (d *driver) send(command string) {
	d.t.Helper()
	if _, err := fmt.Fprintln(d.input, command); err != nil {
		d.t.Fatal(err)
	}
}

func (d *driver) read() (text string) {
	d.t.Helper()
	if !d.lines.Scan() {
		d.t.Fatal("there is no answer")
	}
	return d.lines.Text()
}

func (d *driver) expect(want string) {
	d.t.Helper()
	if got := d.read(); got != normal(d.t, want) {
		d.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// normal is JSON with its names in order, as the encoder of maps writes it.
func normal(t *testing.T, text string) string {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

func TestEachCommandIsAnswered(t *testing.T) {
	service := fake.Start(t)
	service.Put("good", fake.Valid("key_1", "a"))
	d := drive(t, service, tenantauth.WithoutWatch())
	const valid = `"verdict":"VALID","tenant_id":"ten_1","key_id":"key_1","missing_scopes":[]`
	const unknown = `"verdict":"UNKNOWN","tenant_id":"","key_id":"","missing_scopes":[],"source":"DATABASE"`
	for _, step := range []struct{ command, answer string }{
		{`{"id":1,"op":"validate_key","key":"good","scopes":["a"],"timeout_ms":5000}`, `{"id":1,` + valid + `,"source":"DATABASE"}`},
		{`{"id":2,"op":"validate_key","key":"good","scopes":["b"]}`,
			`{"id":2,"verdict":"INSUFFICIENT_SCOPE","tenant_id":"ten_1","key_id":"key_1","missing_scopes":["b"],"source":"NEAR"}`},
		{`{"id":3,"op":"validate_key","key":""}`, `{"id":3,"error":"INVALID_ARGUMENT","reason":"","fields":["key"]}`},
		{`{"id":4,"op":"validate_key_concurrently","key":"good","times":1000,"timeout_ms":5000}`, `{"id":4,"verdicts":{"VALID":1000},"errors":{}}`},
		{`{"id":5,"op":"validate_keys","keys":["nobody's","undecidable","good"],"scopes":[]}`,
			`{"id":5,"items":[{` + unknown + `},{"error":"UNAVAILABLE","reason":"DATABASE_TIMED_OUT","fields":[]},{` + valid + `,"source":"DATABASE"}]}`},
		{`{"id":6,"op":"bind_session","session_id":"s","key":"good","ttl_ms":60000,"attributes":{"a":"b"}}`,
			`{"id":6,"verdict":"VALID","already_bound":false,"tenant_id":"ten_1","key_id":"key_1"}`},
		{`{"id":7,"op":"validate_session","session_id":"s","key":"good"}`, `{"id":7,` + valid + `,"source":"DATABASE","attributes":{"a":"b"}}`},
		{`{"id":8,"op":"unbind_session","session_id":"s","tenant_id":"ten_1"}`, `{"id":8,"was_bound":true}`},
		{`{"id":9,"op":"record_usage","request_id":"r","events":[{"tenant_id":"ten_1","metric":"calls","quantity":2,"at_ms":3600000},{"tenant_id":"ten_1","metric":"never","quantity":1}]}`,
			`{"id":9,"accepted":1,"rejected":[{"index":1,"error":"INVALID_ARGUMENT","reason":"","fields":[]}],"already_recorded":false}`},
		{`{"id":10,"op":"query_usage","tenant_id":"ten_1","metric":"calls","start_ms":1,"end_ms":7200000,"bucket":"HOUR"}`,
			`{"id":10,"sums":[{"metric":"calls","bucket_start_ms":3600000,"quantity":2}]}`},
		{`{"id":11,"op":"watch_state"}`, `{"id":11,"live":false,"revision":0}`},
		{`{"id":12,"op":"server_info"}`, `{"id":12,"version":"0.0.0-fake","revision":0}`},
		{`{"id":13,"op":"dance"}`, `{"id":13,"error":"UNSUPPORTED"}`},
		{`{"op":"close"}`, `{"closed":true}`},
	} {
		d.send(step.command)
		d.expect(step.answer)
	}
	if err := <-d.ended; err != nil {
		t.Error(err)
	}
}

func TestAServiceThatIsGoneIsAnAnswerToo(t *testing.T) {
	service := fake.Start(t)
	service.Stop()
	d := drive(t, service)
	d.send(`{"id":"x","op":"validate_key_concurrently","key":"good","times":3,"timeout_ms":200}`)
	d.expect(`{"id":"x","verdicts":{},"errors":{"UNAVAILABLE":3}}`)
	_ = d.input.Close()
	if err := <-d.ended; err != nil {
		t.Error(err)
	}
}
