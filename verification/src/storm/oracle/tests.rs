use super::*;

/// A history of two workers of one client and one of another, with a clock that is moved by hand.
struct History {
    oracle: Oracle,
    now: Duration,
}

const A: usize = 0;
const B: usize = 1;

impl History {
    fn new() -> History {
        let clients = ["a", "b", "b"].map(str::to_owned).to_vec();
        History { oracle: Oracle::new(clients), now: Duration::from_secs(100) }
    }

    fn begin(&mut self, worker: usize, line: &str) -> String {
        self.oracle.begin(worker, &words(line), self.now).unwrap()
    }

    fn end(&mut self, worker: usize, line: &str) -> Result<()> {
        self.oracle.end(worker, &words(line), self.now)
    }

    fn whole(&mut self, worker: usize, begin: &str, end: &str) -> Result<()> {
        self.begin(worker, begin);
        self.end(worker, end)
    }

    fn later(&mut self, duration: Duration) {
        self.now += duration;
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn complaint(result: Result<()>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[test]
fn an_acknowledged_record_must_be_found() {
    let mut history = History::new();
    history.whole(A, "write 0 0 3", "ok").unwrap();
    history.whole(B, "read 0 0", "ok direct 08").unwrap();
    // As a server leaves it that has dropped the write.
    assert!(complaint(history.whole(B, "read 0 0", "ok direct 00")).contains("lacks 1"));
    assert!(complaint(history.whole(B, "read 0 0", "ok direct 00 3")).contains("lacks 1"));
    history.oracle.finish().unwrap();
}

#[test]
fn a_record_that_is_being_written_may_be_found_or_not() {
    let mut history = History::new();
    history.begin(A, "write 0 0 3");
    for found in ["08", "00", "00 3"] {
        history.whole(B, "read 0 0", &format!("ok direct {found}")).unwrap();
    }
    history.begin(B, "read 0 0");
    history.end(A, "ok").unwrap();
    // The look began before the acknowledgment.
    history.end(B, "ok direct 00").unwrap();
    assert!(complaint(history.whole(B, "read 0 0", "ok direct 28")).contains("nobody has written"));
}

#[test]
fn a_cache_may_be_late_and_not_too_late() {
    let mut history = History::new();
    history.whole(A, "write 0 0 0", "ok").unwrap();
    history.whole(B, "read 0 0", "ok cached 00").unwrap();
    history.later(GRACE);
    // As a client sees it whose break was forgotten.
    assert!(complaint(history.whole(B, "read 0 0", "ok cached 00")).contains("lacks 1"));
    history.oracle.check();
    history.whole(A, "write 0 0 3", "ok").unwrap();
    let told = history.whole(B, "read 0 0", "ok cached 01");
    assert!(complaint(told).contains("lacks 1"), "in the end nothing comes from a cache");
}

#[test]
fn what_was_refused_or_lost_by_its_client_need_not_be_there() {
    let mut history = History::new();
    history.whole(A, "write 0 0 0", "refused 0xc0000043").unwrap();
    history.whole(A, "write 0 0 3", "ok").unwrap();
    history.oracle.abandon(&words("0 0 3")).unwrap();
    history.whole(B, "read 0 0", "ok direct 00").unwrap();
    history.whole(B, "read 0 0", "ok direct 08").unwrap();
    assert!(complaint(history.whole(B, "read 0 0", "ok direct 01")).contains("nobody has written"));
}

#[test]
fn every_acknowledged_record_is_read_back_by_another_client() {
    let mut history = History::new();
    history.whole(B, "write 0 0 1", "ok").unwrap();
    history.whole(2, "read 0 0", "ok direct 02").unwrap();
    assert!(complaint(history.oracle.finish()).contains("no other client"));
    history.whole(A, "read 0 0", "ok direct 02").unwrap();
    history.oracle.finish().unwrap();
}

#[test]
fn an_expected_refusal_is_told_from_another() {
    let mut history = History::new();
    history.whole(A, "add 1", "refused 0xc0000055").unwrap();
    let wrong = history.whole(A, "add 1", "refused 0xc0000001");
    assert!(complaint(wrong).contains("which nothing here leads to"));
    history.oracle.check();
    assert!(history.whole(A, "look 1", "refused 0xc0000054").is_err(), "in the end nothing is in the way");
}

#[test]
fn additions_make_numbers_once_and_in_order() {
    let mut history = History::new();
    history.begin(A, "add 1");
    history.begin(B, "add 1");
    history.end(B, "ok 2").unwrap();
    history.end(A, "ok 1").unwrap();
    // As a server leads to that has dropped the second write, or granted a lock twice.
    assert!(complaint(history.whole(A, "add 1", "ok 2")).contains("after 2 was acknowledged"));
    let mut history = History::new();
    history.begin(A, "add 1");
    history.begin(B, "add 1");
    history.end(B, "ok 1").unwrap();
    assert!(complaint(history.end(A, "ok 1")).contains("two additions"));
    assert!(complaint(history.whole(B, "look 1", "ok direct 3")).contains("after 2 additions"));
    assert!(complaint(history.whole(B, "look 1", "ok direct 0")).contains("after 1"));
    history.whole(B, "look 1", "ok cached 0").unwrap();
}

#[test]
fn a_name_is_where_it_is() {
    let mut history = History::new();
    history.whole(A, "make w0-0 1", "ok").unwrap();
    history.whole(B, "list 1", "ok direct w0-0").unwrap();
    assert!(complaint(history.whole(B, "list 1", "ok direct")).contains("doesn't list"));
    assert!(complaint(history.whole(B, "list 2", "ok direct w0-0")).contains("can only be in"));
    assert!(complaint(history.whole(B, "list 1", "ok direct w0-0 w0-0")).contains("twice"));
    assert!(complaint(history.whole(B, "list 1", "ok direct w0-0 w9-9")).contains("nobody made"));
    assert!(history.whole(B, "stat w0-0 1", "absent direct").is_err());
    history.begin(A, "move w0-0 2");
    // Meanwhile it may be here or there, in a listing that began before in none.
    for (directory, listed) in [(1, "w0-0"), (1, ""), (2, "w0-0"), (2, "")] {
        history.whole(B, &format!("list {directory}"), &format!("ok direct {listed}")).unwrap();
    }
    history.end(A, "ok").unwrap();
    assert!(history.whole(B, "list 1", "ok direct w0-0").is_err());
    history.whole(B, "list 1", "ok cached w0-0").unwrap();
    history.whole(A, "drop w0-0", "ok").unwrap();
    // Somebody may have it open.
    history.whole(B, "list 2", "ok direct w0-0").unwrap();
    history.later(GRACE);
    assert!(history.whole(B, "list 2", "ok direct w0-0").is_err());
    history.whole(B, "stat w0-0 2", "absent direct").unwrap();
}

#[test]
fn a_move_that_was_refused_has_not_happened() {
    let mut history = History::new();
    history.whole(A, "make w0-0 1", "ok").unwrap();
    assert!(history.whole(A, "move w0-0 2", "refused 0xc0000043").is_err(), "nobody is in its way");
    history.whole(B, "list 1", "ok direct w0-0").unwrap();
}

#[test]
fn a_prize_is_won_once() {
    let mut history = History::new();
    assert_eq!(history.begin(A, "claim"), "0");
    assert_eq!(history.begin(B, "claim"), "0");
    history.end(B, "exists 0").unwrap();
    history.begin(B, "claim");
    history.end(A, "ok 0").unwrap();
    assert!(complaint(history.end(B, "ok 0")).contains("too"));
    assert_eq!(history.begin(A, "claim"), "1");
    assert!(complaint(history.end(A, "exists 1")).contains("nobody else"));
}

#[test]
fn the_register_is_replaced_for_all() {
    let mut history = History::new();
    history.whole(B, "get", &format!("ok direct {FIRST_VALUE}")).unwrap();
    history.begin(A, "put 0:1");
    history.whole(B, "get", "ok direct 0:1").unwrap();
    history.whole(B, "get", &format!("ok direct {FIRST_VALUE}")).unwrap();
    history.end(A, "ok").unwrap();
    assert!(complaint(history.whole(B, "get", &format!("ok direct {FIRST_VALUE}"))).contains("replaced"));
    assert!(complaint(history.whole(B, "get", "ok direct 7:7")).contains("holds"));
    history.whole(A, "put 0:2", "refused 0xc0000022").unwrap();
    assert!(complaint(history.whole(B, "get", "ok direct 0:2")).contains("refused"));
}
