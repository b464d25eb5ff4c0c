# Says what is missing on this machine before anything is downloaded. Usage: preflight.sh PYTHON
python=$1
fail() { echo "setup: $1" >&2; exit 1; }
command -v "$python" >/dev/null || fail "$python not found. Install Python 3.11 or newer, or run: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$("$python" --version) is too old. Install Python 3.11 or newer, or run: make PYTHON=/path/to/python3"
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "Python has no venv module. On Debian and Ubuntu: apt-get install python3-venv"
command -v cmake >/dev/null || fail "cmake not found. On Debian and Ubuntu: apt-get install cmake"
command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
  fail "no C++ compiler found. On Debian and Ubuntu: apt-get install g++"
