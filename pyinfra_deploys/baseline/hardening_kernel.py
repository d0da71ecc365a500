"""What the kernel of every host does and refuses: parameters, modules, command line.

A container shares the kernel of the machine below it: there the parameters of its own network take
effect, and the rest waits for a kernel of the host's own.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra_deploys.baseline.host_data import HostData
from pyinfra_deploys.baseline.operations import Absent, File, ensure, put_files
from pyinfra_deploys.baseline.templates import render

PARAMETERS = "/etc/sysctl.d/90-koseki.conf"
MODULES = "/etc/modprobe.d/koseki.conf"
# Read where a host's own boot loader writes its menu; an image has another, written by its builder.
COMMAND_LINE = "/etc/default/grub.d/koseki.cfg"
MENU = "/boot/grub/grub.cfg"
# What a container may not set is left out by systemd itself.
SET = "systemctl restart systemd-sysctl.service"


def differing(parameters: dict[str, str]) -> str:
    """Return a shell question: the parameters that this host may set and that differ, a line each.

    The last line is `settled`.
    """
    listed = "".join(f"{name.replace('.', '/')} {value}\n" for name, value in parameters.items())
    return (
        "while read -r name value; do file=/proc/sys/$name; "
        '[ ! -w $file ] || { read -r seen <$file; [ "$seen" = "$value" ]; } || echo $name; '
        f"done <<'end'\n{listed}end\necho settled"
    )


@deploy("Harden the kernel")
def hardening_kernel(data: HostData) -> None:
    """Set parameters now and at boot, refuse modules, give the boot loader its words."""
    parameters = {name: str(value) for name, value in data.plan.kernel_parameters.items()}
    # A * is one of every interface: interfaces come and go.
    single = {name: value for name, value in parameters.items() if "*" not in name}
    put_files(
        name="Keep the kernel's parameters",
        files=(File(PARAMETERS, render(PARAMETERS, parameters=parameters)),),
        then=SET,
    )
    ensure(
        name="Set the parameters that are kept",
        question=differing(single),
        wanted=["settled"],
        change=SET,
        owns=[("kernel parameter", name, {"value": value}) for name, value in single.items()],
    )
    put_files(
        name="Refuse modules and memory images",
        files=(
            File(MODULES, render(MODULES, modules=data.plan.kernel_modules_refused)),
            File(
                "/etc/security/limits.d/koseki-core.conf",
                "# Managed by koseki (pyinfra, baseline/hardening_kernel.py). Do not edit.\n"
                "# A memory image of a program holds registers and keys.\n"
                "* hard core 0\nroot hard core 0\n",
            ),
            # The baseline's own of before, when it knew of one module only.
            Absent("/etc/modprobe.d/koseki-usb-storage.conf"),
        ),
    )
    put_files(
        name="Keep the kernel's command line",
        files=(File(COMMAND_LINE, render(COMMAND_LINE, words=data.plan.kernel_command_line)),),
        then=f"if [ -e {MENU} ]; then update-grub; fi",
    )
