//! The `dsmq` command. It only wires: what it does is in `dsmq::cli`.

fn main() -> std::process::ExitCode {
    dsmq::cli::main()
}
