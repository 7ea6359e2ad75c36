//! Servers by name: the addresses of a name change while the balancer runs.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, SystemTime};

use super::load;
use super::process::{Balancer, eventually, own_address};
use crate::tercet::command;

/// A server there that responds with a text.
fn serve(address: SocketAddr, text: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                    if line == "\r\n" {
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
}

#[test]
fn a_name_that_gets_another_address_is_followed_also_by_open_connections() {
    let (address, one) = (own_address(), own_address());
    // Another address of this process, and the same port.
    let IpAddr::V4(ip) = one.ip() else { unreachable!("own addresses are of 127.0.0.0/8") };
    let [_, high, middle, low] = ip.octets();
    let two = SocketAddr::from(([127, 128 | high, middle, low], one.port()));
    serve(one, "one");
    serve(two, "two");
    let configuration = format!(
        "listen = [\"{address}\"]\nservers = [\"app.test:{}\"]\nworkers = 1\nresolve-interval = \"50ms\"\naccess-log.to = \"off\"\n",
        one.port()
    );
    let write = |file: &std::path::Path, address: SocketAddr, age: u64| {
        fs::write(file, format!("{} app.test\n", address.ip())).unwrap();
        // The wrapper compares the times in seconds.
        File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_modified(SystemTime::now() - Duration::from_secs(age))
            .unwrap();
    };
    let balancer = Balancer::spawn_with(
        |folder| {
            write(&folder.join("hosts"), one, 60);
            let mut command = command();
            command.env("LD_PRELOAD", "libnss_wrapper.so").env("NSS_WRAPPER_HOSTS", folder.join("hosts"));
            command
        },
        address,
        &configuration,
    );
    eventually("it answers", || load::get(address).is_ok());
    let mut client = load::Client::new(address);
    assert_eq!(client.ask("GET", "/", "").unwrap(), (200, "one".to_owned()));
    write(&balancer.file().with_file_name("hosts"), two, 0);
    // The client's connection is the same, and the idle one to the server before is not used any more.
    eventually("the other address", || client.ask("GET", "/", "").unwrap().1 == "two");
}
