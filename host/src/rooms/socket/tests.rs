//! The queue of a socket at its edges.

use super::*;

fn socket(queue: usize) -> Arc<Socket> {
    let ping = Duration::from_secs(30);
    let limits = SocketLimits { queue, message: 1 << 20, rate: 100, frames: 10_000, ping };
    Socket::new(1, None, 0, limits)
}

#[test]
fn a_full_queue_leaves_out_what_may_be_left_out_and_gives_up_on_the_rest() {
    let socket = socket(10_000);
    let frame = || Frame::binary(vec![0; 1000]);
    for _ in 0..100 {
        socket.push(frame(), Delivery::Droppable);
    }
    assert!(socket.queued() <= 5000, "{}", socket.queued());
    let before = socket.queued();
    socket.push(frame(), Delivery::Reliable);
    assert!(socket.queued() > before);
    for _ in 0..100 {
        socket.push(frame(), Delivery::Reliable);
    }
    assert!(socket.is_cut());
    assert!(matches!(socket.take(), Next::Close(1013, _)));
}

#[test]
fn what_was_queued_before_a_close_comes_before_it_and_nothing_after() {
    let socket = socket(10_000);
    socket.push(Frame::text("a"), Delivery::Reliable);
    socket.close(4000, "enough");
    socket.push(Frame::text("b"), Delivery::Reliable);
    socket.close(4001, "too late");
    assert!(matches!(socket.take(), Next::Frame(frame) if frame == Frame::text("a")));
    assert!(matches!(socket.take(), Next::Close(4000, _)));
}

#[test]
fn a_message_that_is_longer_than_the_queue_may_go_alone() {
    let socket = socket(1024);
    socket.push(Frame::binary(vec![0; 5000]), Delivery::Reliable);
    assert!(!socket.is_cut());
    socket.push(Frame::text("x"), Delivery::Reliable);
    assert!(socket.is_cut());
}

#[test]
fn a_reason_is_cut_between_characters() {
    assert_eq!(cut_to("äöü", 3), "ä");
    assert_eq!(cut_to("abc", 5), "abc");
}

#[test]
fn an_allowance_refills_with_time() {
    let mut allowance = Allowance::new(10);
    assert_eq!((0..20).filter(|_| allowance.take()).count(), 10);
    allowance.since -= Duration::from_millis(500);
    assert!((5..9).contains(&(0..20).filter(|_| allowance.take()).count()));
}
