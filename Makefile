# A front for the scripts; each says in its first lines what it does and takes.
.PHONY: bench growth profile test
bench:
	cargo build --release -p forge
	scripts/bench.sh

growth:
	cargo build --release -p forge
	scripts/growth.sh

profile:
	cargo build --profile profiling -p forge
	scripts/profile.sh

test:
	scripts/test.sh
