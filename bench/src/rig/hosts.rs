//! Two hosts with sockets, and what is between them.

use ebpf_abi::bench::{Bound, WORK_PEER};
use integration_tests::{
    command::run_with,
    lab::{Lab, Space},
    test_run::Hook,
};

use super::{
    path::{Applied, apply},
    traffic::{attach, bound, ifindex},
};

/// Two namespaces with `eth0` each: a client and a server.
pub struct Hosts<'a> {
    /// Who begins.
    pub client: Space,
    /// Who answers.
    pub server: Space,
    /// The server's address.
    pub address: &'static str,
    /// Namespaces that are ours to delete.
    own: Vec<String>,
    _applied: Option<Applied<'a>>,
    _attached: Vec<Box<dyn std::any::Any>>,
}

/// Where hosts on one network are.
const CLIENT: &str = "10.0.1.2/24";
const SERVER: &str = "10.0.1.3/24";

/// Cubes and links of a topology: so many `hello` one behind the other between two ends.
pub fn hello_chain(length: usize, first: &str, last: &str) -> String {
    let cubes: String = (0..length)
        .map(|number| format!("    h{number}: {{ hello: {{}} }}\n"))
        .collect();
    let links: String = (1..length)
        .map(|number| format!("    - [h{}:b, h{number}:a]\n", number - 1))
        .collect();
    format!(
        "  cubes:\n{cubes}  links:\n    - [h0:a, {first}]\n{links}    - [h{}:b, {last}]\n",
        length - 1
    )
}

impl<'a> Hosts<'a> {
    fn made(tag: &str, own: &[&str], address: &'static str, lines: &str) -> Self {
        let names: Vec<String> = own.iter().map(|name| format!("{tag}-{name}")).collect();
        let mut text: String = names
            .iter()
            .map(|name| format!("netns add {name}\n"))
            .collect();
        text += lines;
        run_with("ip -batch -", &text).expect(0);
        let [client, server] = ["client", "server"].map(|end| Space::open(&format!("{tag}-{end}")));
        for host in [&client, &server] {
            host.run("ip link set lo up").expect(0);
            host.run("ip link set eth0 up").expect(0);
        }
        Self {
            client,
            server,
            address,
            own: names,
            _applied: None,
            _attached: Vec::new(),
        }
    }

    fn on_one_network(self) -> Self {
        self.addressed(CLIENT, SERVER)
    }

    fn addressed(self, client: &str, server: &str) -> Self {
        for (host, address) in [(&self.client, client), (&self.server, server)] {
            host.run(&format!("ip address add {address} dev eth0"))
                .expect(0);
        }
        self
    }

    /// A veth pair and nothing else.
    pub fn directly() -> Self {
        let lines =
            "link add name eth0 netns direct-client type veth peer name eth0 netns direct-server\n";
        Self::made("direct", &["client", "server"], "10.0.1.3", lines).on_one_network()
    }

    /// Two veth pairs whose other ends are in a namespace between.
    fn with_middle(tag: &str, address: &'static str) -> (Self, Space) {
        let lines = format!(
            "link add name a netns {tag}-middle type veth peer name eth0 netns {tag}-client\n\
             link add name b netns {tag}-middle type veth peer name eth0 netns {tag}-server\n"
        );
        let hosts = Self::made(tag, &["client", "server", "middle"], address, &lines);
        let middle = Space::open(&format!("{tag}-middle"));
        for end in ["a", "b"] {
            middle.run(&format!("ip link set dev {end} up")).expect(0);
        }
        (hosts, middle)
    }

    /// The kernel's bridge.
    pub fn by_kernel_bridge() -> Self {
        let (hosts, middle) = Self::with_middle("bridge", "10.0.1.3");
        let lines = "link add br0 type bridge\nlink set dev a master br0\nlink set dev b master br0\nlink set dev br0 up\n";
        middle.enter(|| {
            let _absent = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
            run_with("ip -batch -", lines).expect(0);
        });
        hosts.on_one_network()
    }

    /// The kernel's forwarding, with masquerading by nftables.
    pub fn by_kernel_nat() -> Self {
        Self::kernel_router(
            "table ip t {\nchain c { type nat hook postrouting priority 100;\noifname \"b\" masquerade\n}\n}\n",
        )
        .masqueraded()
    }

    /// The kernel's forwarding.
    pub fn by_kernel_router() -> Self {
        Self::kernel_router("")
    }

    /// With rules of nftables.
    fn kernel_router(rules: &str) -> Self {
        let (hosts, middle) = Self::with_middle("router", "10.0.2.3");
        middle.enter(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("IPv4 is there");
            let lines = "address add 10.0.1.1/24 dev a\naddress add 10.0.2.1/24 dev b\n";
            run_with("ip -batch -", lines).expect(0);
            if !rules.is_empty() {
                run_with("nft -f -", rules).expect(0);
            }
        });
        let hosts = hosts.addressed(CLIENT, "10.0.2.3/24");
        hosts
            .client
            .run("ip route add default via 10.0.1.1")
            .expect(0);
        hosts
            .server
            .run("ip route add default via 10.0.2.1")
            .expect(0);
        hosts
    }

    /// Two macvlan interfaces on one parent.
    pub fn by_macvlan() -> Self {
        let text = "netns add macvlan-middle\n\
                    link add name parent netns macvlan-middle type veth peer name unused netns macvlan-middle\n";
        run_with("ip -batch -", text).expect(0);
        let middle = Space::open("macvlan-middle");
        for end in ["parent", "unused"] {
            middle.run(&format!("ip link set dev {end} up")).expect(0);
        }
        run_with(
            "ip -batch -",
            "netns add macvlan-client\nnetns add macvlan-server\n",
        )
        .expect(0);
        for end in ["client", "server"] {
            let line = format!(
                "ip link add link parent name eth0 netns macvlan-{end} type macvlan mode bridge"
            );
            middle.run(&line).expect(0);
        }
        let mut hosts = Self::made("macvlan", &[], "10.0.1.3", "");
        hosts.own = ["client", "server", "middle"]
            .map(|name| format!("macvlan-{name}"))
            .to_vec();
        hosts.on_one_network()
    }

    /// Programs that send everything to the other side at once: the least that a program between them does.
    pub fn by_redirect() -> Self {
        let (mut hosts, middle) = Self::with_middle("bare", "10.0.1.3");
        for (from, to) in [("a", "b"), ("b", "a")] {
            let settings = Bound {
                ifindex: ifindex(&middle, to),
                work: WORK_PEER,
            };
            let program = bound(Hook::Tc, settings);
            let link = attach(&middle, from, Hook::Tc, program.program());
            hosts._attached.push(Box::new((program, link)));
        }
        hosts.on_one_network()
    }

    /// `pcn` with a bridge.
    pub fn by_bridge(lab: &'a Lab) -> Self {
        let spec = format!(
            "  namespaces:\n    client: {{ interfaces: {{ eth0: {{ addresses: [{CLIENT}] }} }} }}\n    \
             server: {{ interfaces: {{ eth0: {{ addresses: [{SERVER}] }} }} }}\n  \
             cubes: {{ br: {{ bridge: {{}} }} }}\n  links: [[br:a, client/eth0], [br:b, server/eth0]]\n"
        );
        Self::applied(lab, "", "10.0.1.3", &spec)
    }

    /// `pcn` with so many `hello` cubes in a row.
    pub fn by_hello(lab: &'a Lab, length: usize) -> Self {
        let tag = format!("chain{length}-");
        let rows: String = hello_chain(
            length,
            &format!("{tag}client/eth0"),
            &format!("{tag}server/eth0"),
        );
        let spec = format!(
            "  namespaces:\n    {tag}client: {{ interfaces: {{ eth0: {{ addresses: [{CLIENT}] }} }} }}\n    \
             {tag}server: {{ interfaces: {{ eth0: {{ addresses: [{SERVER}] }} }} }}\n{rows}"
        );
        Self::applied(lab, &tag, "10.0.1.3", &spec)
    }

    /// `pcn` with a router.
    pub fn by_router(lab: &'a Lab) -> Self {
        Self::routed(lab, "", "")
    }

    /// `pcn` with a router that masquerades.
    pub fn by_nat(lab: &'a Lab) -> Self {
        Self::routed(lab, "nat", ", nat: { nat: { masquerade: true } }").masqueraded()
    }

    /// With cubes on the router's port towards the server, and what these are.
    fn routed(lab: &'a Lab, through: &str, cubes: &str) -> Self {
        let spec = format!(
            "  namespaces:
    client: {{ interfaces: {{ eth0: {{ addresses: [10.0.1.2/24], routes: [{{ to: default, via: 10.0.1.1 }}] }} }} }}
    server: {{ interfaces: {{ eth0: {{ addresses: [10.0.2.3/24], routes: [{{ to: default, via: 10.0.2.1 }}] }} }} }}
  cubes:
    {{ r: {{ router: {{ ports: {{ a: {{ addresses: [10.0.1.1/24] }},
      b: {{ addresses: [10.0.2.1/24], through: [{through}] }} }} }} }}{cubes} }}
  links: [[r:a, client/eth0], [r:b, server/eth0]]
"
        );
        Self::applied(lab, "", "10.0.2.3", &spec)
    }

    /// Insists that the server sees the router's address instead of the client's.
    fn masqueraded(self) -> Self {
        let listener = self
            .server
            .listen(self.address.parse().expect("an address"));
        let address = listener.local_addr().expect("a socket has an address");
        let _stream = self.client.connect(address);
        let (_, client) = listener.accept().expect("the client has connected");
        assert_eq!(client.ip().to_string(), "10.0.2.1", "who the server sees");
        self
    }

    /// Topology and namespaces have names that begin with `tag`.
    fn applied(lab: &'a Lab, tag: &str, address: &'static str, spec: &str) -> Self {
        let applied = apply(lab, &format!("{tag}sockets"), spec);
        Self {
            client: lab.space(&format!("{tag}client")),
            server: lab.space(&format!("{tag}server")),
            address,
            own: Vec::new(),
            _applied: Some(applied),
            _attached: Vec::new(),
        }
    }

    /// Ready: each has found the other.
    pub fn ready(self) -> Self {
        for host in [&self.client, &self.server] {
            // Connections that were closed a moment ago keep no port from the next ones.
            for (name, value) in [("tcp_tw_reuse", "1"), ("ip_local_port_range", "1024 65535")] {
                host.enter(|| std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value))
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        let line = format!("ping -q -c 3 -i 0.01 -W 5 {}", self.address);
        let found = integration_tests::wait::within(integration_tests::wait::PATIENCE, || {
            (self.client.run(&line).code == Some(0)).then_some(())
        });
        assert!(found.is_some(), "{} is not reached", self.address);
        self
    }
}

impl Drop for Hosts<'_> {
    fn drop(&mut self) {
        let lines: String = self
            .own
            .iter()
            .map(|name| format!("netns delete {name}\n"))
            .collect();
        if !lines.is_empty() {
            // What is missing is gone already.
            let _gone = run_with("ip -force -batch -", &lines);
        }
    }
}
