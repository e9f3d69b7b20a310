"""Talks to `firebrand mcp` with the official client for Python:

    pip install mcp
    python tests/reference/mcp_client.py path/to/firebrand FOLDER

FOLDER has a run in `checkpoints/` (firebrand train configs/quickstart.toml makes one in the repository). The client
checks every structured result against the schema of its tool by itself. Calls that must be refused are made as well.
"""

import asyncio
import json
import sys
from pathlib import Path

import mcp
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

program, folder = sys.argv[1], str(Path(sys.argv[2]).resolve())


def get(thing, *names):
    """A field by the name that this version of the package gives it."""
    return next(getattr(thing, name) for name in names if hasattr(thing, name))


async def talk(arguments, work):
    server = StdioServerParameters(command=program, args=["mcp", "--root", folder, *arguments])
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        hello = await session.initialize()
        info = get(hello, "server_info", "serverInfo")
        print(f"{info.name} {info.version}, protocol {get(hello, 'protocol_version', 'protocolVersion')}")
        await work(session)


async def call(session, tool, arguments, fails=False):
    result = await session.call_tool(tool, arguments)
    assert get(result, "is_error", "isError") == fails, (tool, result)
    if fails:
        return result.content[0].text
    found = get(result, "structured_content", "structuredContent")
    assert json.loads(result.content[0].text) == found
    return found


async def reading(session):
    tools = (await session.list_tools()).tools
    names = [tool.name for tool in tools]
    assert "plan" in names and "train" not in names, names
    assert all(get(tool.annotations, "read_only_hint", "readOnlyHint") for tool in tools)
    print("without --allow:", ", ".join(names))
    runs = (await call(session, "runs_list", {}))["runs"]
    run = next(run for run in runs if run["state"] == "finished")
    status = await call(session, "status", {"run": run["path"]})
    print(f"status: {status['name']} {status['state']} at step {status['step']}, loss {status['loss']:.4f}")
    verified = await call(session, "verify", {"model": run["path"]})
    print("verify:", verified["verdict"])
    await call(session, "lineage", {"model": run["path"]})
    await call(session, "scan", {"model": run["path"]})
    await call(session, "runs_compare", {"one": run["path"], "other": run["path"]})
    plan = await call(session, "plan", {"config": f"{run['path']}/config.toml"})
    print(f"plan: {plan['steps']} steps, {plan['memory_bytes']} bytes of memory, on {plan['device']}")
    await call(session, "settings", {})
    train = (await call(session, "settings", {"section": "train"}))["schema"]
    assert "learning_rate" in train["properties"]
    for tool, arguments in [
        ("train", {"config": "a.toml"}),
        ("verify", {"model": "/etc"}),
        ("plan", {"config": "../a.toml"}),
        ("plan", {"config": "no.toml", "sett": 3}),
    ]:
        said = await call(session, tool, arguments, fails=True)
        print(f"{tool} {arguments}: {said.splitlines()[0]}")


async def training(session):
    names = [tool.name for tool in (await session.list_tools()).tools]
    assert {"train", "resume", "stop", "eval"} <= set(names), names
    runs = (await call(session, "runs_list", {}))["runs"]
    run = next(run for run in runs if run["state"] == "finished")
    settings = ["name=by-an-agent", "output.dir=checkpoints/by-an-agent", "checkpoint.reuse=never"]
    config = f"{run['path']}/config.toml"
    status = await call(session, "train", {"config": config, "set": settings, "stop_after_steps": 3})
    while status["state"] in ("starting", "running"):
        await asyncio.sleep(0.2)
        status = await call(session, "status", {"run": "by-an-agent"})
    print(f"train: {status['state']} at step {status['step']} of {status['steps']}")
    assert status["step"] == 3 and status["state"] == "interrupted", status


print(f"mcp {getattr(mcp, '__version__', None) or __import__('importlib.metadata').metadata.version('mcp')}")
asyncio.run(talk([], reading))
asyncio.run(talk(["--allow", "train,eval"], training))
