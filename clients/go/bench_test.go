package tenantauth_test

import (
	"testing"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

const benchmarkAddress = "192.0.2.7"

func benchmarked(b *testing.B, answer *tenantauthv1.ValidateKeyResponse, options ...tenantauth.Option) *tenantauth.Client {
	service := fake.Start(b)
	// The lifetime is longer than any benchmark runs.
	answer.Provenance.CacheableFor.Seconds = 100_000
	service.Put(key, answer)
	client, err := tenantauth.New(service.Address(), options...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	ctx := tenantauth.ContextWithClientAddressText(b.Context(), benchmarkAddress)
	if validation, err := client.ValidateKey(ctx, key, scope); err != nil || !validation.IsValid() {
		b.Fatal(validation.Verdict, err)
	}
	b.ReportAllocs()
	return client
}

func BenchmarkNearCacheHit(b *testing.B) {
	client := benchmarked(b, fake.Valid("key_1", scope))
	for b.Loop() {
		if validation, err := client.ValidateKey(b.Context(), key, scope); err != nil || validation.Provenance.Source != tenantauth.SourceNear {
			b.Fatal(validation, err)
		}
	}
}

func BenchmarkNearCacheHitOfKeyWithNetworks(b *testing.B) {
	client := benchmarked(b, fake.Restricted("key_1", "198.51.100.0/24", "192.0.2.0/24", "2001:db8::/32"))
	ctx := tenantauth.ContextWithClientAddressText(b.Context(), benchmarkAddress)
	for b.Loop() {
		if validation, err := client.ValidateKey(ctx, key, scope); err != nil || validation.Provenance.Source != tenantauth.SourceNear {
			b.Fatal(validation, err)
		}
	}
}

func BenchmarkNearCacheHitParallel(b *testing.B) {
	client := benchmarked(b, fake.Valid("key_1", scope))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.ValidateKey(b.Context(), key, scope); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkWithoutNearCache(b *testing.B) {
	client := benchmarked(b, fake.Valid("key_1", scope), tenantauth.WithoutNearCache())
	for b.Loop() {
		if _, err := client.ValidateKey(b.Context(), key, scope); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGuard(b *testing.B) {
	client := benchmarked(b, fake.Valid("key_1", scope))
	principal, err := client.RequireKey(b.Context(), key, scope)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_, release, err := client.Guard(b.Context(), principal)
		if err != nil {
			b.Fatal(err)
		}
		release()
	}
}

func BenchmarkLocalLimiter(b *testing.B) {
	client := benchmarked(b, fake.Valid("key_1", scope))
	limiter, err := client.NewLocalLimiter(metric)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if result, err := limiter.Consume(b.Context(), ofKey, 1); err != nil || !result.Allowed() {
			b.Fatal(result, err)
		}
	}
}
