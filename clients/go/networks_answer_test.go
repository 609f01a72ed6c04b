package tenantauth_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func TestUnparsableNetworkContainsNothing(t *testing.T) {
	r := start(t)
	r.service.Put(restricted, fake.Restricted("key_2", "everywhere", "192.0.2.0/33", "192.0.2.0/24"))
	if validation := r.from("192.0.2.7"); !validation.IsValid() {
		t.Errorf("%+v", validation)
	}
	for _, address := range []string{"203.0.113.1", "2001:db8::1"} {
		if validation := r.from(address); validation.Verdict != tenantauth.AddressNotAllowed {
			t.Errorf("%s: %v", address, validation.Verdict)
		}
	}
	r = start(t)
	r.service.Put(restricted, fake.Restricted("key_2", "everywhere"))
	for range 2 {
		if validation := r.from("192.0.2.7"); validation.Verdict != tenantauth.AddressNotAllowed {
			t.Errorf("the only network: %v", validation.Verdict)
		}
	}
}

func TestOtherVerdictsStandWhateverTheAddress(t *testing.T) {
	for number := range tenantauthv1.Verdict_name {
		verdict := tenantauth.Verdict(number)
		switch verdict {
		case 0, tenantauth.Valid, tenantauth.InsufficientScope, tenantauth.AddressRequired, tenantauth.AddressNotAllowed:
			continue
		}
		r := start(t)
		answer := fake.Restricted("key_2", "192.0.2.0/24")
		answer.Verdict = tenantauthv1.Verdict(number)
		r.service.Put(restricted, answer)
		for _, address := range []string{"203.0.113.1", "192.0.2.7", ""} {
			if validation := r.from(address); validation.Verdict != verdict {
				t.Errorf("%v from %q: %v", verdict, address, validation.Verdict)
			}
		}
		r.expectCalls("ValidateKey", 1)
	}
}

func TestAddressVerdictWithoutNetworksStands(t *testing.T) {
	for _, verdict := range []tenantauthv1.Verdict{tenantauthv1.Verdict_VERDICT_ADDRESS_REQUIRED, tenantauthv1.Verdict_VERDICT_ADDRESS_NOT_ALLOWED} {
		r := start(t)
		r.service.Put(restricted, fake.Denied(verdict, "key_2"))
		for _, address := range []string{"", "192.0.2.7"} {
			if validation := r.from(address); validation.Verdict != tenantauth.Verdict(verdict) {
				t.Errorf("%v from %q: %v", verdict, address, validation.Verdict)
			}
		}
	}
}

func TestAddressVerdictHasNoMissingScopes(t *testing.T) {
	r := start(t)
	answer := fake.Restricted("key_2", "192.0.2.0/24")
	answer.Verdict, answer.MissingScopes = tenantauthv1.Verdict_VERDICT_INSUFFICIENT_SCOPE, []string{"admin"}
	r.service.Put(restricted, answer)
	for address, verdict := range map[string]tenantauth.Verdict{
		"192.0.2.7": tenantauth.Valid, "203.0.113.1": tenantauth.AddressNotAllowed, "": tenantauth.AddressRequired,
	} {
		if validation := r.from(address); validation.Verdict != verdict || validation.MissingScopes != nil {
			t.Errorf("%q: %v, missing %v", address, validation.Verdict, validation.MissingScopes)
		}
	}
}

func TestAnswerHasTheNetworks(t *testing.T) {
	r := startRestricted(t)
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.7/32"), netip.MustParsePrefix("2001:db8:1::/48")}
	for range 2 {
		validation := r.from("192.0.2.7")
		if !slices.Equal(validation.AllowedNetworks, want) {
			t.Fatalf("%v", validation.AllowedNetworks)
		}
		// A caller's change must not reach the cached answer.
		validation.AllowedNetworks[0] = netip.MustParsePrefix("0.0.0.0/0")
	}
	if validation := r.validate(); validation.AllowedNetworks != nil {
		t.Errorf("%v", validation.AllowedNetworks)
	}
}

func TestSessionIsUsedFromNetworksOfBothKeys(t *testing.T) {
	r := start(t)
	r.service.Put("opener", fake.Restricted("key_2", "192.0.2.0/24", "198.51.100.0/24"))
	r.service.Put("other", fake.Restricted("key_3", "198.51.100.0/24", "203.0.113.0/24"))
	bind := tenantauth.Bind{SessionID: session, Key: "opener", TTL: time.Hour}
	for address, verdict := range map[string]tenantauth.Verdict{"": tenantauth.AddressRequired, "203.0.113.1": tenantauth.AddressNotAllowed} {
		binding, err := r.client.BindSession(tenantauth.ContextWithClientAddressText(r.ctx, address), bind)
		if err != nil || binding.Verdict != verdict || binding.Session.ID != "" {
			t.Errorf("bound from %q: %+v, %v", address, binding, err)
		}
	}
	if binding, err := r.client.BindSession(tenantauth.ContextWithClientAddressText(r.ctx, "192.0.2.1"), bind); err != nil || binding.Verdict != tenantauth.Valid {
		t.Fatalf("%+v, %v", binding, err)
	}
	for presented, verdicts := range map[tenantauth.Key]map[string]tenantauth.Verdict{
		"": {
			"192.0.2.1": tenantauth.Valid, "198.51.100.1": tenantauth.Valid, "203.0.113.1": tenantauth.AddressNotAllowed, "": tenantauth.AddressRequired,
		},
		"opener": {
			"192.0.2.1": tenantauth.Valid, "198.51.100.1": tenantauth.Valid, "203.0.113.1": tenantauth.AddressNotAllowed, "": tenantauth.AddressRequired,
		},
		"other": {
			"192.0.2.1": tenantauth.AddressNotAllowed, "198.51.100.1": tenantauth.Valid, "203.0.113.1": tenantauth.AddressNotAllowed, "": tenantauth.AddressRequired,
		},
	} {
		before := r.service.Calls("ValidateSession")
		for address, verdict := range verdicts {
			validation, err := r.client.ValidateSession(tenantauth.ContextWithClientAddressText(r.ctx, address), session, presented)
			if err != nil || validation.Verdict != verdict {
				t.Errorf("%q from %q: %v, %v", string(presented), address, validation.Verdict, err)
			}
			if presents := presented == "other"; presents != (len(validation.PresentedKeyAllowedNetworks) == 2) {
				t.Errorf("%q: networks of the presented key %v", string(presented), validation.PresentedKeyAllowedNetworks)
			}
		}
		r.expectCalls("ValidateSession", before+1)
	}
}

func TestSessionOfUnrestrictedKeyObeysThePresentedOne(t *testing.T) {
	r := startRestricted(t)
	r.bind(tenantauth.Bind{SessionID: session, Key: key, TTL: time.Hour})
	for address, verdict := range map[string]tenantauth.Verdict{
		"192.0.2.7": tenantauth.Valid, "203.0.113.1": tenantauth.AddressNotAllowed, "": tenantauth.AddressRequired,
	} {
		validation, err := r.client.ValidateSession(tenantauth.ContextWithClientAddressText(r.ctx, address), session, restricted)
		if err != nil || validation.Verdict != verdict {
			t.Errorf("%q: %v, %v", address, validation.Verdict, err)
		}
	}
	if validation := r.validateSession(""); validation.Verdict != tenantauth.Valid {
		t.Errorf("without the key: %v", validation.Verdict)
	}
	r.expectCalls("ValidateSession", 2)
}
