"""Ports and processes of a private Ray; that it starts, or ends without a trace, is in test_cluster.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from curation.ray_processes import Started, free_ports, last_words, stop_processes


def test_ports_are_free_and_not_those_that_the_kernel_hands_out():
    ports = free_ports(50)
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(ports)) == 50
    assert max(ports) < max(low, 32_768)


def test_what_a_try_began_is_ended_with_what_it_began_in_turn():
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code += "; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(children) == 1
        stop_processes(Started(processes=[parent]))
        parent.wait(timeout=10)
    stat = Path(f"/proc/{children[0]}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_grave_words_of_a_raylet_go_before_later_ones(tmp_path):
    (tmp_path / "logs").mkdir()
    assert last_words(tmp_path) == ""
    (tmp_path / "logs" / "raylet.out").write_text(
        "[1 I 1] hello\n[2 C 1] no room for me\n*** StackTrace ***\n[3 I 1] goodbye\n"
    )
    assert last_words(tmp_path) == "[2 C 1] no room for me"
