//! Definitions of limits, credits, and what is counted.

use tenant_auth_svc::{
    database::engine::{Engine, Statement},
    domain::{
        clock::UnixMillis,
        id::{KeyId, TenantId},
        limit::{
            CalendarWindow, Credits, Limit, LimitAmount, LimitCount, LimitName, LimitRule, LimitSubject,
            OutagePolicy, Quota, QuotaWindow, Refill,
            store::{
                AdjustmentId, CreditAdjustment, CreditOutcome, LimitCursor, LimitHolder, LimitStore, SetLimit,
            },
        },
        page::{PageRequest, PageSize},
        store::{Change, Lane, Store},
        text::Plan,
        usage::UsageMetric,
    },
};

use crate::harness::{
    NOW, call, change,
    records::{audit_actions, new_key, new_tenant},
};

fn amount(number: i64) -> LimitAmount {
    LimitAmount::new(number).unwrap()
}

fn name(text: &str) -> LimitName {
    LimitName::parse(text).unwrap()
}

fn daily(number: i64) -> LimitRule {
    LimitRule::Quota(Quota { amount: amount(number), window: QuotaWindow::Calendar(CalendarWindow::Day) })
}

fn limit(subject: &LimitSubject, of: &str, rule: LimitRule) -> Limit {
    Limit {
        subject: subject.clone(),
        name: name(of),
        metric: UsageMetric::parse("requests").unwrap(),
        rule,
        on_outage: OutagePolicy::LocalShare,
        shadow: false,
        version: 0,
        updated_at: UnixMillis(0),
    }
}

async fn set(store: &impl LimitStore, limit: &Limit) -> Limit {
    let set = store.set_limit(call(Lane::Admin), limit, None, &change()).await.unwrap().outcome;
    assert!(set.subject_exists);
    set.limit.unwrap()
}

/// A tenant with a plan of its own, and a key of it.
struct Customer {
    tenant: TenantId,
    plan: Plan,
    key: KeyId,
}

impl Customer {
    async fn create(store: &impl Store) -> Self {
        let mut new = new_tenant();
        // Other tests may use the database at the same time.
        new.plan = Plan::parse(&new.id.as_str()[..32]).unwrap();
        store.create_tenant(call(Lane::Admin), &new, &change()).await.unwrap();
        let key = new_key(&new.id, &[], None);
        store.insert_key(call(Lane::Admin), &key, None, &change()).await.unwrap();
        Self { tenant: new.id, plan: new.plan, key: key.id }
    }

    fn subjects(&self) -> [LimitSubject; 3] {
        [
            LimitSubject::Plan(self.plan.as_str().into()),
            LimitSubject::Tenant(self.tenant.clone()),
            LimitSubject::Key(self.key.clone()),
        ]
    }

    fn holder(&self) -> LimitHolder {
        LimitHolder::Tenant(self.tenant.clone())
    }
}

pub(super) async fn check_limits<E: Engine>(engine: &E, store: &(impl Store + LimitStore)) {
    check_definitions(store).await;
    check_precedence(store).await;
    check_pages(store).await;
    check_forgotten_counters(engine, store).await;
    check_credits(store).await;
    check_counts(engine, store).await;
}

async fn check_definitions(store: &(impl Store + LimitStore)) {
    let customer = Customer::create(store).await;
    for subject in customer.subjects() {
        let wanted = limit(&subject, "requests.daily", daily(100));
        let first = set(store, &wanted).await;
        assert_eq!(first, Limit { version: first.version, updated_at: first.updated_at, ..wanted.clone() });
        assert!(first.version > 0 && first.updated_at > UnixMillis(0));
        assert_eq!(set(store, &wanted).await, first, "the same values change nothing");
        let read = store.get_limit(call(Lane::Admin), &subject, &first.name).await.unwrap();
        assert_eq!(read, Some(first.clone()));

        let other = limit(&subject, "requests.daily", daily(50));
        for expected in [0, first.version - 1] {
            let refused = store.set_limit(call(Lane::Admin), &other, Some(expected), &change()).await;
            let unchanged = SetLimit { subject_exists: true, limit: Some(first.clone()) };
            assert_eq!(refused.unwrap().outcome, unchanged);
        }
        let set = store.set_limit(call(Lane::Admin), &other, Some(first.version), &change()).await.unwrap();
        let changed = set.outcome.limit.unwrap();
        assert!(changed.version > first.version && changed.version <= set.revision.0, "{changed:?}");
        assert_eq!(changed.rule, daily(50));

        // Runs twice, as after a lost response: both find that this change deleted it.
        let deletion = change();
        for _ in 0..2 {
            let name = &first.name;
            let deleted = store.delete_limit(call(Lane::Admin), &subject, name, &deletion).await;
            assert!(deleted.unwrap().outcome);
        }
        let later = Change { at: UnixMillis(NOW.0 + 1), ..change() };
        let again = store.delete_limit(call(Lane::Admin), &subject, &first.name, &later).await.unwrap();
        assert!(!again.outcome);
        assert_eq!(store.get_limit(call(Lane::Admin), &subject, &first.name).await.unwrap(), None);
    }
    let changes = ["limit.delete", "limit.set", "limit.set"];
    let actions = audit_actions(store, &customer.tenant).await;
    assert_eq!(actions[..6], [changes, changes].concat(), "of the key, and of the tenant");

    for unknown in [LimitSubject::Tenant(TenantId::generate()), LimitSubject::Key(KeyId::generate())] {
        let refused =
            store.set_limit(call(Lane::Admin), &limit(&unknown, "a", daily(1)), None, &change()).await;
        assert_eq!(refused.unwrap().outcome, SetLimit { subject_exists: false, limit: None });
    }
}

async fn check_precedence(store: &(impl Store + LimitStore)) {
    let customer = Customer::create(store).await;
    let [plan, tenant, key] = customer.subjects();
    for (subject, names) in [(&plan, vec!["a", "b", "c"]), (&tenant, vec!["b", "c", "d"]), (&key, vec!["c"])]
    {
        for of in names {
            set(store, &limit(subject, of, daily(1))).await;
        }
    }
    let named = |limits: Vec<Limit>| -> Vec<_> {
        limits.into_iter().map(|limit| (limit.name.as_str().to_owned(), limit.subject.scope())).collect()
    };
    let expected = |scopes: [&'static str; 4]| -> Vec<(String, &str)> {
        ["a", "b", "c", "d"].map(str::to_owned).into_iter().zip(scopes).collect()
    };
    let Customer { tenant, plan, key } = &customer;
    let of_key = store.effective_limits(call(Lane::Admin), tenant, plan, key).await.unwrap();
    assert_eq!(named(of_key), expected(["plan", "tenant", "key", "tenant"]));
    let others = store.effective_limits(call(Lane::Admin), tenant, plan, &KeyId::generate()).await.unwrap();
    assert_eq!(named(others), expected(["plan", "tenant", "tenant", "tenant"]));
    let nobody = (TenantId::generate(), KeyId::generate());
    let without_plan = Plan::parse("").unwrap();
    let none = store.effective_limits(call(Lane::Admin), &nobody.0, &without_plan, &nobody.1).await.unwrap();
    assert_eq!(none, []);

    let state = async |holder| {
        let state = store.limit_state(call(Lane::Admin), &holder).await.unwrap();
        state.map(|state| named(state.into_iter().map(|(limit, _)| limit).collect()))
    };
    assert_eq!(
        state(LimitHolder::Key(key.clone())).await,
        Some(expected(["plan", "tenant", "key", "tenant"]))
    );
    assert_eq!(state(customer.holder()).await, Some(expected(["plan", "tenant", "tenant", "tenant"])));
    assert_eq!(state(LimitHolder::Tenant(nobody.0)).await, None);
    assert_eq!(state(LimitHolder::Key(nobody.1)).await, None);
    let idle = Customer::create(store).await;
    assert_eq!(state(idle.holder()).await, Some(vec![]), "no limit applies");
}

async fn check_pages(store: &(impl Store + LimitStore)) {
    let customer = Customer::create(store).await;
    let [_, tenant, key] = customer.subjects();
    for subject in [&tenant, &key] {
        for of in ["c", "a", "b"] {
            set(store, &limit(subject, of, daily(1))).await;
        }
    }
    let page = |after| PageRequest { size: PageSize::new(2), after };
    let first = store.list_limits(call(Lane::Admin), Some(&tenant), &page(None)).await.unwrap();
    let names =
        |limits: &[Limit]| -> Vec<_> { limits.iter().map(|limit| limit.name.as_str().to_owned()).collect() };
    assert_eq!(names(&first.items), ["a", "b"]);
    let next = store.list_limits(call(Lane::Admin), Some(&tenant), &page(first.next)).await.unwrap();
    assert_eq!((names(&next.items), next.next), (vec!["c".to_owned()], None));

    // All limits: each once, in order, in whatever pages.
    let (mut all, mut after): (Vec<(LimitSubject, LimitName)>, Option<LimitCursor>) = (Vec::new(), None);
    loop {
        let page = store.list_limits(call(Lane::Admin), None, &page(after)).await.unwrap();
        all.extend(page.items.into_iter().map(|limit| (limit.subject, limit.name)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let order = |(subject, name): &(LimitSubject, LimitName)| {
        (subject.scope(), subject.id().to_owned(), name.clone())
    };
    assert!(all.windows(2).all(|pair| order(&pair[0]) < order(&pair[1])), "{all:?}");
    let of_customer = all.iter().filter(|(subject, _)| [&tenant, &key].contains(&subject));
    assert_eq!(of_customer.count(), 6);
}

/// Inserts a counter of the shared limits of a tenant. `start` is SQL in which `now` is the time in milliseconds.
async fn count<E: Engine>(engine: &E, tenant: &TenantId, of: &str, kind: &str, start: &str, counted: i64) {
    let sql = format!(
        "INSERT INTO limit_counters (tenant_id, key_id, name, kind, window_start, window_end, counted, leased, refreshed_at) \
         SELECT ?1, '', ?2, ?3, {start}, 0, ?4, 1, now \
         FROM (SELECT CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) AS now)"
    );
    let statement = Statement::new(sql).bind(tenant.as_str()).bind(of).bind(kind).bind(counted);
    engine.transaction(call(Lane::Admin), vec![statement]).await.unwrap();
}

async fn counters<E: Engine>(engine: &E, tenant: &TenantId) -> i64 {
    let statement = Statement::new("SELECT count(*) FROM limit_counters WHERE tenant_id = ?1");
    engine.query(call(Lane::Admin), statement.bind(tenant.as_str())).await.unwrap()[0].integer(0).unwrap()
}

async fn check_forgotten_counters<E: Engine>(engine: &E, store: &(impl Store + LimitStore)) {
    let customer = Customer::create(store).await;
    let [plan, tenant, _] = customer.subjects();
    let id = &customer.tenant;
    set(store, &limit(&plan, "a", daily(1))).await;
    set(store, &limit(&tenant, "b", daily(1))).await;
    for (of, kind) in [("a", "day"), ("b", "day"), ("b", "hour")] {
        count(engine, id, of, kind, "now", 1).await;
    }
    set(store, &limit(&tenant, "b", daily(2))).await;
    assert_eq!(counters(engine, id).await, 2, "what is counted goes on, except under another kind");
    // The limit of the plan does not become one of the tenant by its name.
    store.delete_limit(call(Lane::Admin), &tenant, &name("a"), &change()).await.unwrap();
    assert_eq!(counters(engine, id).await, 2);
    store.delete_limit(call(Lane::Admin), &tenant, &name("b"), &change()).await.unwrap();
    assert_eq!(counters(engine, id).await, 1);
    store.delete_limit(call(Lane::Admin), &plan, &name("a"), &change()).await.unwrap();
    assert_eq!(counters(engine, id).await, 1, "counters of a plan's tenants are swept");
}

async fn check_credits(store: &(impl Store + LimitStore)) {
    let customer = Customer::create(store).await;
    let [plan, _, key] = customer.subjects();
    let credits = LimitRule::Credits(Credits { initial: amount(10), refill: None });
    set(store, &limit(&plan, "tokens", credits)).await;
    set(store, &limit(&plan, "requests", daily(1))).await;
    let adjustment = |of: &str, number: i64, id: &str| CreditAdjustment {
        holder: customer.holder(),
        name: name(of),
        amount: number,
        caller: Some("billing".to_owned()),
        id: AdjustmentId::parse(id).unwrap(),
        reason: None,
    };
    let add = async |adjustment: &CreditAdjustment| {
        store.add_credits(call(Lane::Admin), adjustment, &change()).await.unwrap().outcome
    };
    let adjusted =
        |credited, already_added| CreditOutcome::Adjusted { credited, remaining: credited, already_added };
    let id = |name: &str| format!("{name}-of-{}", customer.tenant);
    let first = adjustment("tokens", 5, &id("invoice"));
    assert_eq!(add(&first).await, adjusted(15, false));
    assert_eq!(add(&first).await, adjusted(15, true));
    assert_eq!(add(&adjustment("tokens", 6, &id("invoice"))).await, CreditOutcome::IdReused);
    let others = CreditAdjustment { caller: Some("support".to_owned()), ..first.clone() };
    assert_eq!(add(&others).await, adjusted(20, false), "each caller has its own ids");
    // Through a key: the limit of the plan applies, which all keys share.
    let by_key = CreditAdjustment {
        holder: LimitHolder::Key(customer.key.clone()),
        ..adjustment("tokens", -100, &id("fraud"))
    };
    assert_eq!(add(&by_key).await, adjusted(0, false), "not below what is used");
    set(store, &limit(&key, "tokens", credits)).await;
    let by_key = CreditAdjustment { id: AdjustmentId::parse(&id("gift")).unwrap(), amount: 1, ..by_key };
    assert_eq!(add(&by_key).await, adjusted(11, false), "now the key has its own");

    assert_eq!(add(&adjustment("none", 5, &id("x"))).await, CreditOutcome::NoSuchLimit);
    assert_eq!(add(&adjustment("requests", 5, &id("x"))).await, CreditOutcome::NoCredits);
    let nobody = CreditAdjustment { holder: LimitHolder::Tenant(TenantId::generate()), ..first };
    assert_eq!(add(&nobody).await, CreditOutcome::NoSuchSubject);
    let actions = audit_actions(store, &customer.tenant).await;
    assert_eq!(actions.iter().filter(|action| *action == "limit.add_credits").count(), 4);
}

async fn check_counts<E: Engine>(engine: &E, store: &(impl Store + LimitStore)) {
    let customer = Customer::create(store).await;
    let [_, tenant, _] = customer.subjects();
    let id = &customer.tenant;
    let rolling = LimitRule::Quota(Quota {
        amount: amount(100),
        window: QuotaWindow::rolling(std::time::Duration::from_secs(86_400)).unwrap(),
    });
    let refill = Refill { amount: amount(5), every: CalendarWindow::Month, max_balance: None };
    let credits = LimitRule::Credits(Credits { initial: amount(7), refill: Some(refill) });
    for (of, rule) in [("credits", credits), ("daily", daily(100)), ("rolling", rolling)] {
        set(store, &limit(&tenant, of, rule)).await;
    }
    let state = async || -> Vec<LimitCount> {
        let state = store.limit_state(call(Lane::Admin), &customer.holder()).await.unwrap().unwrap();
        state.into_iter().map(|(_, count)| count).collect()
    };
    let unused = state().await;
    assert!(unused.iter().all(|count| (count.counted, count.bucket, count.first_used) == (0, None, None)));
    assert_eq!(unused[0].credited, 7);
    // The window before, this one, and the next one, of which a replica holds a share already.
    for (start, counted) in
        [("now - now % 86400000 - 86400000", 1), ("now - now % 86400000", 20), ("now + 86400000", 300)]
    {
        count(engine, id, "daily", "day", start, counted).await;
    }
    // A bucket is an hour and a half; one that began a day and a half bucket ago counts, an older one does not.
    for (start, counted) in [("now - 92000000", 1), ("now - 89000000", 20), ("now - 1000", 300)] {
        count(engine, id, "rolling", "rolling:86400000", start, counted).await;
    }
    count(engine, id, "credits", "credits", "0", 4).await;
    let [credits, daily, rolling] = &state().await[..] else { panic!("three limits") };
    assert_eq!((daily.counted, daily.leased), (20, 1));
    let (start, end) = daily.window.unwrap();
    assert_eq!((end.0 - start.0, start.0 % 86_400_000), (86_400_000, 0));
    assert!((start..end).contains(&daily.now), "{daily:?}");
    assert_eq!((rolling.counted, rolling.leased, rolling.window), (320, 2, None));
    assert!((UnixMillis(rolling.now.0 - 90_000_000)..rolling.now).contains(&rolling.first_used.unwrap()));
    assert_eq!((credits.counted, credits.credited), (4, 0));
    assert!(credits.window.is_some(), "the window of the refill");
}
