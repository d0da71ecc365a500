"""Write every generated page: `python -m koseki_ops.reference`."""

from koseki_ops.plan.site import project_root
from koseki_ops.reference.pages import write

if __name__ == "__main__":
    write(project_root())
