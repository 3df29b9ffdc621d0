"""Other projects' own pages over Upnext's state: Airflow's and MLflow's, on this machine only."""

import os
import subprocess
import sys
from pathlib import Path

import click

from upnext.errors import ConfigError
from upnext.settings import Settings, load_settings

HOST = "127.0.0.1"
PASSWORDS = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"


@click.command()
@click.option("--port", default=8080, show_default=True, help="Where the page answers, on this machine only.")
@click.option(
    "--data", envvar="UPNEXT_DATA", default="log:", show_default=True, help="As for `upnext cycle`."
)
def airflow(port: int, data: str) -> None:
    """Open the pipeline in Airflow: its page, its scheduler, and the DAGs of this checkout.

    Its state lies in UPNEXT_HOME/airflow. The DAGs are paused until somebody switches them on.
    """
    from upnext.cli.supervise import supervise

    settings = load_settings()
    env = airflow_env(settings, port, data)
    home = Path(env["AIRFLOW_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, "-m", "airflow"]
    click.echo(f"Preparing Airflow in {home}")
    made = subprocess.run([*program, "db", "migrate"], env=env, check=False, capture_output=True, text=True)
    if made.returncode:
        raise ConfigError(f"Airflow cannot prepare its database in {home}:\n{made.stdout}{made.stderr}")
    click.echo(f"Airflow will answer on http://{HOST}:{port} in about 20 s; Ctrl-C ends it.")
    click.echo(f"The user is admin, the password is in {env[PASSWORDS]}")
    # Not `airflow standalone`: it serves logs on every interface, and leaves its children behind on SIGTERM.
    supervise(
        {
            "Airflow's API server": [*program, "api-server"],
            "Airflow's scheduler": [*program, "scheduler", "--skip-serve-logs"],
            "Airflow's DAG processor": [*program, "dag-processor"],
        },
        env,
    )


def airflow_env(settings: Settings, port: int, data: str) -> dict[str, str]:
    """Variables for Airflow's programs. A variable that is set already stands, except where state lies."""
    url = f"http://{HOST}:{port}"
    home = settings.home.absolute()
    defaults = {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder()),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        PASSWORDS: str(home / "airflow" / "passwords.json"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    }
    fixed = {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "UPNEXT_HOME": str(home),
        "UPNEXT_DATA": data,
        # A DAG's tasks call `upnext` by its name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    return {**defaults, **os.environ, **fixed}


def dags_folder() -> Path:
    """The folder of the DAGs, which are part of a checkout and not of the installed package."""
    import upnext

    folder = Path(upnext.__file__).parents[1] / "dags"
    if not folder.is_dir():
        raise ConfigError(
            f"the DAGs are not in {folder}: run this from a checkout, or put dags/upnext_cycle.py "
            "of this version into your own Airflow's folder of DAGs"
        )
    return folder


@click.command()
@click.option("--port", default=5000, show_default=True, help="Where the page answers, on this machine only.")
def mlflow(port: int) -> None:
    """Open MLflow over every training run and every release."""
    from upnext.cli.supervise import supervise

    settings = load_settings()
    store = settings.url("tracking")
    settings.home.mkdir(parents=True, exist_ok=True)
    if store.startswith(("http://", "https://")):
        raise ConfigError(f"UPNEXT_TRACKING_URL is {store}: that server has its own page, open it there")
    click.echo(f"MLflow will answer on http://{HOST}:{port} in about 10 s; Ctrl-C ends it.")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", store, "--registry-store-uri", store]
    command += ["--default-artifact-root", (settings.home.absolute() / "artifacts").as_uri()]
    supervise(
        {"MLflow's server": command},
        {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ},
    )
