package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
)

// driver sends commands and reads answers, like the real driver.
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
	client, err := tenantauth.New(service.Address(), options...)
	if err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- run(client, commands, answers) }()
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
		d.t.Fatal("no answer")
	}
	return d.lines.Text()
}

func (d *driver) expect(want string) {
	d.t.Helper()
	if got := d.read(); got != normal(d.t, want) {
		d.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// normal returns JSON with sorted names, as the encoder writes maps.
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

func TestEachCommandGetsAnAnswer(t *testing.T) {
	service := fake.Start(t)
	service.Put("good", fake.Valid("key_1", "a"))
	service.Put("office", fake.Restricted("key_2", "192.0.2.0/24"))
	d := drive(t, service, tenantauth.WithoutWatch())
	const valid = `"verdict":"VALID","tenant_id":"ten_1","plan":"pro","key_id":"key_1","missing_scopes":[]`
	const fromOffice = `"tenant_id":"ten_1","plan":"pro","key_id":"key_2","missing_scopes":[]`
	const unknown = `"verdict":"UNKNOWN","tenant_id":"","plan":"","key_id":"","missing_scopes":[],"source":"DATABASE"`
	for _, step := range []struct{ command, answer string }{
		{`{"id":1,"op":"validate_key","key":"good","scopes":["a"],"timeout_ms":5000}`, `{"id":1,` + valid + `,"source":"DATABASE"}`},
		{`{"id":2,"op":"validate_key","key":"good","scopes":["b"]}`,
			`{"id":2,"verdict":"INSUFFICIENT_SCOPE","tenant_id":"ten_1","plan":"pro","key_id":"key_1","missing_scopes":["b"],"source":"NEAR"}`},
		{`{"id":3,"op":"validate_key","key":""}`, `{"id":3,"error":"INVALID_ARGUMENT","reason":"","fields":["key"]}`},
		{`{"id":4,"op":"validate_key_concurrently","key":"good","times":1000,"timeout_ms":5000}`, `{"id":4,"verdicts":{"VALID":1000},"errors":{}}`},
		{`{"id":5,"op":"validate_keys","keys":["nobody's","undecidable","good"],"scopes":[]}`,
			`{"id":5,"items":[{` + unknown + `},{"error":"UNAVAILABLE","reason":"DATABASE_TIMED_OUT","fields":[]},{` + valid + `,"source":"DATABASE"}]}`},
		{`{"id":6,"op":"bind_session","session_id":"s","key":"good","ttl_ms":60000,"attributes":{"a":"b"}}`,
			`{"id":6,"verdict":"VALID","already_bound":false,"tenant_id":"ten_1","key_id":"key_1"}`},
		{`{"id":7,"op":"validate_session","session_id":"s","key":"good"}`, `{"id":7,` + valid + `,"source":"DATABASE","attributes":{"a":"b"},"presented_key_id":"key_1"}`},
		{`{"id":8,"op":"unbind_session","session_id":"s","tenant_id":"ten_1"}`, `{"id":8,"was_bound":true}`},
		{`{"id":9,"op":"record_usage","request_id":"r","events":[{"tenant_id":"ten_1","metric":"calls","quantity":2,"at_ms":3600000},{"tenant_id":"ten_1","metric":"never","quantity":1}]}`,
			`{"id":9,"accepted":1,"rejected":[{"index":1,"error":"INVALID_ARGUMENT","reason":"","fields":[]}],"already_recorded":false}`},
		{`{"id":10,"op":"query_usage","tenant_id":"ten_1","metric":"calls","start_ms":1,"end_ms":7200000,"bucket":"HOUR"}`,
			`{"id":10,"sums":[{"metric":"calls","bucket_start_ms":3600000,"quantity":2}]}`},
		{`{"id":11,"op":"watch_state"}`, `{"id":11,"live":false,"revision":0}`},
		{`{"id":12,"op":"server_info"}`, `{"id":12,"version":"0.0.0-fake","revision":0}`},
		{`{"id":14,"op":"require_key","key":"good","scopes":["a"]}`, `{"id":14,"principal":{"tenant_id":"ten_1","key_id":"key_1"}}`},
		{`{"id":15,"op":"require_key","key":"good","scopes":["b"]}`, `{"id":15,"denied":"INSUFFICIENT_SCOPE","missing_scopes":["b"]}`},
		{`{"id":16,"op":"require_key","key":""}`, `{"id":16,"error":"INVALID_ARGUMENT","reason":"","fields":["key"]}`},
		{`{"id":17,"op":"load","key":"good","calls":0,"interval_ms":1}`, `{"id":17,"ok":0,"verdicts":{},"errors":{},"latency_ms":[]}`},
		{`{"id":18,"op":"record_many","tenant_id":"ten_1","metric":"calls","count":700}`, `{"id":18,"accepted":700,"rejected":0}`},
		{`{"id":19,"op":"record_many","tenant_id":"ten_1","metric":"CALLS","count":2}`, `{"id":19,"accepted":0,"rejected":2}`},
		{`{"id":20,"op":"validate_key","key":"office","client_address":"192.0.2.7:443"}`, `{"id":20,` + fromOffice + `,"verdict":"VALID","source":"DATABASE"}`},
		{`{"id":21,"op":"validate_key","key":"office"}`, `{"id":21,` + fromOffice + `,"verdict":"ADDRESS_REQUIRED","source":"NEAR"}`},
		{`{"id":22,"op":"require_key","key":"office","client_address":"192.0.3.7"}`, `{"id":22,"denied":"ADDRESS_NOT_ALLOWED","missing_scopes":[]}`},
		{`{"id":23,"op":"validate_keys","keys":["office","good"],"client_address":"::ffff:192.0.2.7"}`,
			`{"id":23,"items":[{` + fromOffice + `,"verdict":"VALID","source":"DATABASE"},{` + valid + `,"source":"DATABASE"}]}`},
		{`{"id":24,"op":"validate_keys","keys":["good"],"client_address":"x"}`,
			`{"id":24,"items":[{"error":"INVALID_ARGUMENT","reason":"","fields":["client_address"]}]}`},
		{`{"id":25,"op":"validate_session","session_id":"s","client_address":"x"}`, `{"id":25,"error":"INVALID_ARGUMENT","reason":"","fields":["client_address"]}`},
		{`{"id":26,"op":"bind_session","session_id":"s","key":"office","ttl_ms":60000,"client_address":"192.0.3.7"}`,
			`{"id":26,"verdict":"ADDRESS_NOT_ALLOWED","already_bound":false,"tenant_id":"","key_id":""}`},
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

func TestEachCommandAboutLimitsGetsAnAnswer(t *testing.T) {
	service := fake.Start(t)
	service.Put("good", fake.Valid("key_1", "a"))
	service.PutLimit("calls", 10)
	d := drive(t, service, tenantauth.WithoutWatch())
	const valid = `"allowed":true,"verdict":"VALID","tenant_id":"ten_1","plan":"pro","key_id":"key_1","missing_scopes":[],"source":"DATABASE","attributes":null,"presented_key_id":""`
	const denied = `"allowed":false,"verdict":"QUOTA_EXCEEDED","tenant_id":"ten_1","plan":"pro","key_id":"key_1","missing_scopes":[],"source":"DATABASE","attributes":null,"presented_key_id":""`
	limit := func(remaining int, exceeded bool, retryAfter string) string {
		return fmt.Sprintf(`"limits":[{"name":"requests","metric":"calls","limit":100,"remaining":%d,"window_ms":3600000,"reset_after_ms":90000,`+
			`"retry_after_ms":%s,"decided_by":"LEASE","exceeded":%t,"shadow":false}]`, remaining, retryAfter, exceeded)
	}
	const cost = `"costs":[{"metric":"calls","amount":4}]`
	for _, step := range []struct{ command, answer string }{
		{`{"id":1,"op":"consume","key":"good","scopes":["a"],` + cost + `,"consume_id":"c"}`, `{"id":1,` + valid + `,"already_consumed":false,` + limit(6, false, "null") + `}`},
		{`{"id":2,"op":"consume","key":"good",` + cost + `,"consume_id":"c"}`, `{"id":2,` + valid + `,"already_consumed":true,"limits":[]}`},
		{`{"id":3,"op":"reserve","key":"good",` + cost + `,"reservation_id":"r","expires_in_ms":60000,"on_expiry":"CHARGE"}`,
			`{"id":3,` + valid + `,"reservation_id":"r","already_reserved":false,"expires_in_ms":60000,` + limit(2, false, "null") + `}`},
		{`{"id":4,"op":"reserve","key":"good",` + cost + `,"reservation_id":"s"}`,
			`{"id":4,` + denied + `,"reservation_id":"s","already_reserved":false,"expires_in_ms":null,` + limit(2, true, "90000") + `}`},
		{`{"id":5,"op":"settle","reservation_id":"r","actual":[{"metric":"calls","amount":1}]}`,
			`{"id":5,"state":"SETTLED","already_settled":false,"limits":[{"name":"requests","metric":"calls","reserved":4,"charged":1,"exceeded_by":0}]}`},
		{`{"id":6,"op":"cancel","reservation_id":"r"}`, `{"id":6,"error":"FAILED_PRECONDITION","reason":"","fields":[]}`},
		{`{"id":7,"op":"consume_many","requests":[{"key":"good",` + cost + `},{"key":"good","client_address":"x",` + cost + `}]}`,
			`{"id":7,"items":[{` + valid + `,"already_consumed":false,` + limit(1, false, "null") + `},{"error":"INVALID_ARGUMENT","reason":"","fields":["credential.key.client_address"]}]}`},
		{`{"id":8,"op":"consume","session_id":"",` + cost + `}`, `{"id":8,"error":"INVALID_ARGUMENT","reason":"","fields":["session_id"]}`},
		{`{"id":9,"op":"limit_state","tenant_id":"ten_1"}`,
			`{"id":9,"limits":[{"name":"requests","metric":"calls","used":0,"leased":0,"reserved":0,"unaccounted":0,"remaining":1,"reset_after_ms":60000}]}`},
		{`{"id":10,"op":"limit_state","tenant_id":"ten_2"}`, `{"id":10,"error":"NOT_FOUND","reason":"","fields":[]}`},
		{`{"op":"close"}`, `{"closed":true}`},
	} {
		d.send(step.command)
		d.expect(step.answer)
	}
}

func TestLoadReportsEachCall(t *testing.T) {
	service := fake.Start(t)
	service.Put("good", fake.Valid("key_1", "a"))
	d := drive(t, service, tenantauth.WithoutNearCache())
	d.send(`{"id":1,"op":"load","key":"good","calls":20,"interval_ms":1,"concurrency":3,"timeout_ms":5000}`)
	var made struct {
		OK        int            `json:"ok"`
		Verdicts  map[string]int `json:"verdicts"`
		LatencyMS []float64      `json:"latency_ms"`
	}
	if err := json.Unmarshal([]byte(d.read()), &made); err != nil || made.OK != 20 || made.Verdicts["VALID"] != 20 || len(made.LatencyMS) != 20 {
		t.Errorf("%+v, %v", made, err)
	}
	if made := service.Calls("ValidateKey"); made != 20 {
		t.Errorf("%d calls", made)
	}
	d.send(`{"op":"close"}`)
	d.expect(`{"closed":true}`)
}

func TestEnvironmentConfiguresTheClient(t *testing.T) {
	service := fake.Start(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("\ufeff a-token \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := map[string]string{"TENANT_AUTH_ENDPOINTS": service.Address(), "TENANT_AUTH_TOKEN_FILE": token, "TENANT_AUTH_TIMEOUT_MS": "20000"}
	client, err := connect(func(name string) string { return good[name] })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := client.ServerInfo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sent := service.Header("GetServerInfo").Get("authorization"); len(sent) != 1 || sent[0] != "Bearer a-token" {
		t.Errorf("%q was sent", sent)
	}
	for name, value := range map[string]string{
		"TENANT_AUTH_TIMEOUT_MS": "-1", "TENANT_AUTH_TOKEN": "two\nlines", "TENANT_AUTH_TLS_CA_FILE": "/nowhere", "TENANT_AUTH_ENDPOINTS": "::1:1",
	} {
		bad := maps.Clone(good)
		bad[name] = value
		if _, err := connect(func(name string) string { return bad[name] }); err == nil {
			t.Errorf("%s=%q: want an error", name, value)
		}
	}
}

func TestUnreachableServiceIsReportedInTheAnswer(t *testing.T) {
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
