"""The parts of the Train and Jobs pages: what a job would do, is doing, and has done."""
