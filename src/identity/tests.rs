//! Identity from the side of a request: who waits, who asks, what is kept. The keeper is the test.

use std::pin::pin;

use futures_util::future::join_all;
use tokio::time::{advance, timeout};

use super::cell::Fetched;
use super::*;
use crate::hash::FingerprintKey;
use crate::provider::credential::{AwsRole, Entra, EntraApp, Google, azure};

fn credential(name: &str) -> Arc<Credential> {
    let fingerprint = Fingerprint::of(&FingerprintKey::new([0; 32]), [Some(name)]);
    Arc::new(Credential { fingerprint, holder: name.into(), source: Source::Google(Google::Ambient) })
}

fn straight() -> Arc<IssuerWay> {
    Arc::default()
}

fn fetched(text: &'static str) -> Result<Fetched, NoPass> {
    Ok(Fetched { pass: pass(text), life: Duration::from_secs(3600) })
}

fn pass(text: &'static str) -> Pass {
    Pass::Bearer(HeaderValue::from_static(text))
}

fn at(seconds: u64) -> impl Fn() -> Ticks + Copy {
    move || Ticks(seconds * 1000)
}

#[tokio::test(start_paused = true)]
async fn many_who_find_none_wait_for_one_flight() {
    let (identity, keeper::Inbox(mut inbox)) = Identity::new();
    let credential = credential("a");
    let way = straight();
    let waiting = join_all((0..10).map(|_| identity.pass(&credential, &way, at(0))));
    let keeper = async {
        let ask = inbox.recv().await.unwrap();
        assert_eq!(&*ask.credential.holder, "a");
        ask.cell.settle(fetched("t"), Ticks(0));
    };
    let (passes, ()) = tokio::join!(waiting, keeper);
    assert!(passes.iter().all(|it| *it == Ok(pass("t"))), "{passes:?}");
    assert!(inbox.try_recv().is_err(), "one question for ten requests");
    // The same credential of the next generation.
    assert_eq!(identity.pass(&Arc::new((*credential).clone()), &way, at(1)).await, Ok(pass("t")));
    // One that is about to end is used at once, and asked for once.
    for _ in 0..3 {
        assert_eq!(identity.pass(&credential, &way, at(3400)).await, Ok(pass("t")));
    }
    assert!(inbox.try_recv().is_ok() && inbox.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_failure_reaches_all_who_wait_and_is_not_tried_again_at_once() {
    let (identity, keeper::Inbox(mut inbox)) = Identity::new();
    let credential = credential("a");
    let way = straight();
    let waiting = join_all((0..3).map(|_| identity.pass(&credential, &way, at(0))));
    let keeper = async { inbox.recv().await.unwrap().cell.settle(Err(NoPass::Refused("no".into())), Ticks(0)) };
    let (passes, ()) = tokio::join!(waiting, keeper);
    assert!(passes.iter().all(|it| *it == Err(NoPass::Refused("no".into()))), "{passes:?}");
    assert!(identity.pass(&credential, &way, at(0)).await.is_err());
    assert!(inbox.try_recv().is_err(), "backed off");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let (identity, _inbox) = Identity::new();
    let credential = credential("a");
    let way = straight();
    let mut waiting = pin!(identity.pass(&credential, &way, at(0)));
    assert!(timeout(IDENTITY_WAIT_MAX / 2, waiting.as_mut()).await.is_err());
    advance(IDENTITY_WAIT_MAX).await;
    assert_eq!(waiting.await, Err(NoPass::Late));
    // Without a keeper there is nothing to wait for.
    let (identity, inbox) = Identity::new();
    drop(inbox);
    assert_eq!(identity.pass(&credential, &way, at(0)).await, Err(NoPass::Late));
}

#[tokio::test(start_paused = true)]
async fn a_refused_pass_is_forgotten_and_spent_cells_give_way() {
    let (identity, keeper::Inbox(mut inbox)) = Identity::new();
    let (first, way) = (credential("a"), straight());
    let keeper = async { inbox.recv().await.unwrap().cell.settle(fetched("t"), Ticks(0)) };
    let (pass_of_first, ()) = tokio::join!(identity.pass(&first, &way, at(0)), keeper);
    assert_eq!(pass_of_first, Ok(pass("t")));
    assert!(!identity.refused(&credential("somebody else"), &straight(), &pass("t")));
    assert!(identity.refused(&first, &straight(), &pass("an older one")));
    assert_eq!(identity.pass(&first, &way, at(1)).await, Ok(pass("t")));
    assert!(identity.refused(&first, &straight(), &pass("t")));
    let keeper = async { inbox.recv().await.unwrap().cell.settle(fetched("u"), Ticks(0)) };
    let (pass_of_first, ()) = tokio::join!(identity.pass(&first, &way, at(2)), keeper);
    assert_eq!(pass_of_first, Ok(pass("u")));

    // What came by one way says nothing of another.
    let other = IssuerWay { id: 1, ..IssuerWay::default() };
    assert!(!identity.refused(&first, &other, &pass("u")));

    assert_eq!(identity.cells().len(), 1);
    identity.cell(&credential("b"), &straight(), Ticks(4_000_000));
    assert_eq!(identity.cells().len(), 1, "what has ended went with the next that came");
    for number in 0..IDENTITIES_MAX + 5 {
        identity.cell(&credential(&number.to_string()), &straight(), Ticks(4_000_001 + number as u64));
    }
    assert_eq!(identity.cells().len(), IDENTITIES_MAX);
}

#[tokio::test]
async fn keys_of_the_config_need_nobody() {
    let (identity, keeper::Inbox(mut inbox)) = Identity::new();
    let keys = AwsKeys::new(&Secret::new("AKIDX"), &Secret::new("s"), None).unwrap();
    let of = |role: Option<AwsRole>| {
        let source = Source::Aws(Aws { keys: AwsSource::Static(keys.clone()), role, region: "r".into() });
        Arc::new(Credential { source, ..(*credential("a")).clone() })
    };
    assert_eq!(identity.pass(&of(None), &straight(), at(0)).await, Ok(Pass::Keys(keys.clone())));
    assert!(inbox.try_recv().is_err());
    let role = AwsRole { arn: "a".into(), external_id: None, session_name: "s".into() };
    let (asking, way) = (of(Some(role)), straight());
    let keeper = async { inbox.recv().await.unwrap().cell.settle(Err(NoPass::Unreachable), Ticks(0)) };
    let (asked, ()) = tokio::join!(identity.pass(&asking, &way, at(0)), keeper);
    assert_eq!(asked, Err(NoPass::Unreachable));
}

#[test]
fn clocks() {
    let (identity, _) = Identity::new();
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let after = |seconds: u64| wall + Duration::from_secs(seconds);
    let before = |seconds: u64| wall - Duration::from_secs(seconds);
    assert!(!identity.learn_skew(after(239), wall, wall) && !identity.learn_skew(before(239), wall, wall));
    assert_eq!(identity.aws_time(wall), wall);
    assert!(identity.learn_skew(after(600), wall, wall));
    assert_eq!(identity.aws_time(wall), after(600));
    assert!(!identity.learn_skew(after(601), after(600), wall), "by their clock the signature was made just now");
    assert!(identity.learn_skew(after(601), wall, wall), "one that was under way when it was learnt");
    assert!(identity.learn_skew(before(3600), after(600), wall));
    assert_eq!(identity.aws_time(wall), before(3600));
    assert!(identity.learn_skew(wall, before(3600), wall), "the machine's clock was set right");
    assert_eq!(identity.aws_time(wall), wall);
}

#[test]
fn nothing_shows_a_secret() {
    let source = Source::Entra(Entra {
        app: EntraApp::Secret { tenant: "t".into(), client_id: "c".into(), client_secret: Secret::new("canary") },
        scope: "s".into(),
        cloud: azure::Cloud::Public,
    });
    let keys = AwsKeys::new(&Secret::new("AKIDX"), &Secret::new("canary"), None).unwrap();
    let mut token = HeaderValue::from_static("Bearer canary");
    token.set_sensitive(true);
    for text in [
        format!("{source:?}"),
        format!("{:?}", Credential { source, ..(*credential("a")).clone() }),
        format!("{:?}", Pass::Keys(keys)),
        format!("{:?}", Pass::Bearer(token)),
    ] {
        assert!(!text.contains("canary"), "{text}");
    }
}
