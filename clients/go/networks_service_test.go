package tenantauth_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fakeclock"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func TestRealServiceLimitsKeysToNetworks(t *testing.T) {
	// With a manual clock and without the stream, only the client's own change can invalidate the near cache.
	client, _ := connect(t, tenantauth.WithClock(fakeclock.New()), tenantauth.WithoutWatch())
	admin := tenantauthv1.NewAdminServiceClient(client.Raw())
	issued, err := admin.IssueKey(t.Context(), &tenantauthv1.IssueKeyRequest{
		TenantId: "ten_demo", Name: "office", Scopes: []string{"demo:read"}, AllowedNetworks: []string{"192.0.2.0/24", "2001:db8:1::/48"},
	})
	if err != nil {
		t.Fatal(err)
	}
	limited := tenantauth.Key(issued.GetPlaintext())
	from := func(address string) context.Context {
		return tenantauth.ContextWithClientAddressText(t.Context(), address)
	}
	expect := func(address string, want tenantauth.Verdict, source tenantauth.Source) {
		t.Helper()
		validation, err := client.ValidateKey(from(address), limited, "demo:read")
		isNear := validation.Provenance.Source == tenantauth.SourceNear
		if err != nil || validation.Verdict != want || isNear != (source == tenantauth.SourceNear) {
			t.Errorf("%q: %+v, %v", address, validation, err)
		}
	}
	expect("", tenantauth.AddressRequired, tenantauth.SourceDatabase)
	expect("192.0.2.7:443", tenantauth.Valid, tenantauth.SourceNear)
	expect("[2001:db8:1::7]:443", tenantauth.Valid, tenantauth.SourceNear)
	expect("203.0.113.1", tenantauth.AddressNotAllowed, tenantauth.SourceNear)
	outcomes, err := client.ValidateKeys(from("192.0.2.7"), []tenantauth.KeyQuery{{Key: limited}, {Key: limited, ClientAddress: "203.0.113.1"}})
	if err != nil || outcomes[0].Verdict != tenantauth.Valid || outcomes[1].Verdict != tenantauth.AddressNotAllowed {
		t.Errorf("%+v, %v", outcomes, err)
	}
	bind := tenantauth.Bind{SessionID: "session-1", Key: limited, TTL: time.Hour}
	for address, verdict := range map[string]tenantauth.Verdict{"": tenantauth.AddressRequired, "203.0.113.1": tenantauth.AddressNotAllowed} {
		if binding, err := client.BindSession(from(address), bind); err != nil || binding.Verdict != verdict {
			t.Errorf("bound from %q: %v, %v", address, binding.Verdict, err)
		}
	}
	if binding, err := client.BindSession(from("192.0.2.7"), bind); err != nil || binding.Verdict != tenantauth.Valid {
		t.Fatalf("%+v, %v", binding, err)
	}
	for address, verdict := range map[string]tenantauth.Verdict{
		"192.0.2.8": tenantauth.Valid, "": tenantauth.AddressRequired, "203.0.113.1": tenantauth.AddressNotAllowed,
	} {
		if validation, err := client.ValidateSession(from(address), "session-1", ""); err != nil || validation.Verdict != verdict {
			t.Errorf("session from %q: %v, %v", address, validation.Verdict, err)
		}
	}
	_, err = admin.UpdateKey(t.Context(), &tenantauthv1.UpdateKeyRequest{
		KeyId: issued.GetKey().GetKeyId(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"allowed_networks"}}, AllowedNetworks: []string{"203.0.113.0/24"},
	})
	if err != nil {
		t.Fatal(err)
	}
	expect("203.0.113.1", tenantauth.Valid, tenantauth.SourceDatabase)
	expect("192.0.2.7", tenantauth.AddressNotAllowed, tenantauth.SourceNear)
}
