package tenantauth_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// shown returns a value printed in every way that a program may use.
func shown(t *testing.T, value any) string {
	t.Helper()
	var text bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&text, verb+"\n", value)
	}
	slog.New(slog.NewTextHandler(&text, nil)).Info("text", "value", value)
	return text.String()
}

func hides(t *testing.T, name, text string) {
	t.Helper()
	for _, secret := range []string{key, fmt.Sprintf("%x", key), fmt.Sprintf("%X", key)} {
		if strings.Contains(text, secret) {
			t.Errorf("%s contains the key: %s", name, text)
		}
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	plain := tenantauth.Key(key)
	for name, value := range map[string]any{
		"a key":     plain,
		"a pointer": &plain,
		"a query":   tenantauth.KeyQuery{Key: key, Scopes: []string{scope}},
		"a session": tenantauth.SessionQuery{SessionID: session, Key: key},
		"consuming": tenantauth.ConsumeRequest{Credential: tenantauth.KeyQuery{Key: key}},
		"a binding": tenantauth.Bind{SessionID: session, Key: key},
		"keys":      []tenantauth.Key{key},
		"TLS":       tenantauth.TLSPEM{Key: []byte(key)},
	} {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		hides(t, name, shown(t, value)+string(encoded))
	}
	hides(t, "a JSON log", func() string {
		var text bytes.Buffer
		slog.New(slog.NewJSONHandler(&text, nil)).Info("json", "key", plain, "query", tenantauth.KeyQuery{Key: key})
		return text.String()
	}())
	if string(plain) != key {
		t.Error("the key itself was changed")
	}
}

func TestGeneratedMessagesNeverPrintKeys(t *testing.T) {
	query := &tenantauthv1.ValidateKeyRequest{Key: key, RequiredScopes: []string{scope}}
	for name, message := range map[string]proto.Message{
		"a key":      query,
		"a batch":    &tenantauthv1.BatchValidateKeysRequest{Requests: []*tenantauthv1.ValidateKeyRequest{query}},
		"a stream":   &tenantauthv1.StreamValidateKeysRequest{Request: query},
		"a session":  &tenantauthv1.ValidateSessionRequest{SessionId: session, Key: key},
		"a binding":  &tenantauthv1.BindSessionRequest{SessionId: session, Key: key},
		"an issue":   &tenantauthv1.IssueKeyResponse{Plaintext: key, Key: &tenantauthv1.ApiKey{KeyId: "key_1"}},
		"a rotation": &tenantauthv1.RotateKeyResponse{Plaintext: key},
		"a question": &tenantauthv1.ExplainKeyRequest{Plaintext: key, ClientAddress: "192.0.2.7"},
		"consuming": &tenantauthv1.BatchConsumeRequest{Requests: []*tenantauthv1.ConsumeRequest{{
			Credential: &tenantauthv1.LimitCredential{Credential: &tenantauthv1.LimitCredential_Key{Key: query}},
		}}},
		"reserving": &tenantauthv1.ReserveRequest{Credential: &tenantauthv1.LimitCredential{
			Credential: &tenantauthv1.LimitCredential_Session{Session: &tenantauthv1.ValidateSessionRequest{Key: key}},
		}},
		"a report": &tenantauthv1.ReportLeakRequest{Plaintext: key, Source: "github"},
	} {
		text := shown(t, message)
		hides(t, name, text)
		encoded, err := json.Marshal(message)
		if err != nil || !strings.Contains(string(encoded), "[redacted]") {
			t.Errorf("%s: %s, %v", name, encoded, err)
		}
		hides(t, name, string(encoded))
		sent, err := proto.Marshal(message)
		if err != nil || !strings.Contains(string(sent), key) {
			t.Errorf("%s: the key is not sent: %v", name, err)
		}
		if !strings.Contains(text, "[redacted]") {
			t.Errorf("%s does not show that a key was set: %s", name, text)
		}
	}
	if query.GetKey() != key {
		t.Error("printing changed the message")
	}
	if none := (*tenantauthv1.ValidateKeyRequest)(nil); fmt.Sprint(none) != "<nil>" {
		t.Errorf("%v", none)
	}
}

func TestPrincipalsKeepTheKeyWithoutPrintingIt(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.bind(tenantauth.Bind{SessionID: "ta_canary_of_a_session", Key: key, TTL: time.Hour})
	validation, err := r.client.ValidateSession(r.ctx, "ta_canary_of_a_session", key)
	if err != nil {
		t.Fatal(err)
	}
	principal, err := validation.Principal()
	if err != nil {
		t.Fatal(err)
	}
	guarded := r.guard(principal)
	ctx := tenantauth.ContextWithPrincipal(guarded, principal)
	_ = r.client.Close()
	for name, value := range map[string]any{
		"a principal": principal, "a pointer": &principal, "a validation": validation, "principals": []tenantauth.Principal{principal},
		"a verified principal": tenantauth.VerifiedPrincipal{Principal: principal}, "a context": ctx, "the end": r.expectEnd("closed", guarded, "UNDECIDED"),
	} {
		text := shown(t, value)
		if encoded, err := json.Marshal(value); err == nil {
			text += string(encoded)
		}
		var binary bytes.Buffer
		_ = gob.NewEncoder(&binary).Encode(value)
		text += binary.String()
		hides(t, name, text)
		if strings.Contains(text, "ta_canary_of_a_session") {
			t.Errorf("%s contains the session: %s", name, text)
		}
	}
	encoded, err := json.Marshal(principal)
	if err != nil || string(encoded) != `{"TenantID":"ten_1","TenantName":"Acme","Plan":"pro","KeyID":"key_1","Scopes":["orders:read","orders:write"]}` {
		t.Errorf("%s, %v", encoded, err)
	}
}

func TestKeyEchoedByTheServiceIsRedacted(t *testing.T) {
	var log bytes.Buffer
	r := start(t, tenantauth.WithAttempts(1), tenantauth.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	r.service.Before(func(context.Context, string, any) error {
		return status.Error(codes.Internal, "cannot decide about "+key)
	})
	_, single := r.client.ValidateKey(r.ctx, key)
	_, batch := r.client.ValidateKeys(r.ctx, []tenantauth.KeyQuery{{Key: key}})
	_, session := r.client.ValidateSession(r.ctx, session, key)
	_, binding := r.client.BindSession(r.ctx, tenantauth.Bind{Key: key})
	_, consuming := r.client.Consume(r.ctx, consumption(1))
	_, consumingMany := r.client.ConsumeMany(r.ctx, []tenantauth.ConsumeRequest{consumption(1)})
	_, reserving := r.client.Reserve(r.ctx, tenantauth.ReserveRequest{Credential: tenantauth.SessionQuery{SessionID: "s", Key: key}, Costs: costs(1)})
	for name, err := range map[string]error{
		"single": single, "batch": batch, "session": session, "binding": binding,
		"consuming": consuming, "consuming many": consumingMany, "reserving": reserving,
	} {
		made := toError(t, err)
		hides(t, name, shown(t, err)+fmt.Sprintf("%+v", *made))
		if made.Message != "cannot decide about [redacted]" {
			t.Errorf("%s: %s", name, made.Message)
		}
	}
	r.await("the log of the stream", func() bool { return r.service.Calls("Watch") > 0 })
	_ = r.client.Close()
	hides(t, "the log", log.String())
}
