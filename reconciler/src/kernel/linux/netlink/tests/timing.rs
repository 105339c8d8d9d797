//! What a large topology costs.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

/// Not a measurement to rely on, but a look at what 500 pairs cost: `cargo test -- --nocapture --ignored`.
#[test]
#[ignore = "prints timings"]
fn five_hundred_pairs() {
    let Some((host, guest)) = pair("many") else {
        return;
    };
    let (mut outside, mut inside) = (host.netlink(), guest.netlink());
    let namespace = netns::open(&guest.0).unwrap();
    let names: Vec<_> = (0..500)
        .map(|number| (format!("pcn-{number}"), format!("eth{number}")))
        .collect();
    let timed = |what: &str, started: Instant| eprintln!("{what}: {:?}", started.elapsed());

    let started = Instant::now();
    let mut made = Vec::new();
    for (name, peer) in &names {
        let mut request = veth(name, &namespace);
        request.peer.name = peer;
        made.push(outside.create_veth(&request).unwrap());
    }
    timed("create 500 pairs into one namespace", started);

    let started = Instant::now();
    for (number, pair) in (0u32..).zip(&made) {
        let address = Ipv4Addr::from_bits(0x0a00_0001 + (number << 8));
        inside.set_up(pair.peer_index).unwrap();
        inside
            .add_address(pair.peer_index, address.into(), 24)
            .unwrap();
        inside
            .add_address(
                pair.peer_index,
                Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(number) << 64).into(),
                64,
            )
            .unwrap();
    }
    timed("500 far ends up, with two addresses", started);

    let started = Instant::now();
    assert_eq!(outside.links().unwrap().len(), 501);
    timed("list 501 interfaces", started);
    let started = Instant::now();
    assert!(
        made.iter()
            .all(|pair| inside.addresses(pair.peer_index).unwrap().len() == 2)
    );
    timed("list addresses of 500 interfaces, one by one", started);
    let started = Instant::now();
    assert!(
        made.iter()
            .all(|pair| inside.routes(pair.peer_index).unwrap().is_empty())
    );
    timed("list routes of 500 interfaces, one by one", started);
    let started = Instant::now();
    names
        .iter()
        .for_each(|(name, _)| outside.set_gro(name, true).unwrap());
    timed("switch GRO of 500 interfaces", started);
    let started = Instant::now();
    made[..100]
        .iter()
        .for_each(|pair| outside.delete_link(pair.index).unwrap());
    timed("delete 100 pairs one by one", started);
    let started = Instant::now();
    let rest: Vec<_> = made[100..].iter().map(|pair| pair.index).collect();
    outside.delete_links(&rest).unwrap();
    timed("delete 400 pairs at once", started);

    let started = Instant::now();
    let namespaces: Vec<_> = (0..100)
        .map(|number| Namespace::new(&format!("many-{number}")))
        .collect();
    timed("create 100 namespaces", started);
    let started = Instant::now();
    let mut conversations: Vec<_> = namespaces.iter().map(Namespace::netlink).collect();
    timed("open 100 conversations", started);
    let started = Instant::now();
    for (number, namespace) in namespaces.iter().enumerate() {
        outside
            .create_veth(&veth(
                &format!("far-{number}"),
                &netns::open(&namespace.0).unwrap(),
            ))
            .unwrap();
    }
    timed("create 100 pairs into a namespace each", started);
    let started = Instant::now();
    assert!(
        conversations
            .iter_mut()
            .all(|inside| inside.links().unwrap().len() == 2)
    );
    timed("list the interfaces of 100 namespaces", started);
    drop(conversations);
    let started = Instant::now();
    drop(namespaces);
    timed("delete 100 namespaces", started);
}
