# Prints the Python that Dify's SDK runs in: the first 3.12 or newer that really runs and can make an environment, else
# the one given. Usage: dify_python.sh PYTHON
fits() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 12) <= sys.version_info < (3, 15))' >/dev/null 2>&1
}
for candidate in python3.12 python3.13 python3.14 \
  "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12.*/bin/python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13.*/bin/python3.13; do
  if fits "$candidate"; then echo "$candidate"; exit; fi
done
echo "$1"
