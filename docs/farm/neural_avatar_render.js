// SPDX-License-Identifier: GPL-3.0-or-later
//
// A Flamenco job type: an avatar's scene rendered by Blender in chunks, each of which may be killed and run again.
// Put this file into the `scripts` folder beside the Flamenco Manager and restart it.

const JOB_TYPE = {
  label: "Neural Avatar (Blender)",
  description: "Render frames with the Neural Avatar engine, alone or in a set's compositor",
  settings: [
    {
      key: "frames",
      type: "string",
      required: true,
      eval: "f'{C.scene.frame_start}-{C.scene.frame_end}'",
      evalInfo: { showLinkButton: true, description: "Scene frame range" },
      description: "Frames to render, such as '1-250' or '3, 10-20'",
    },
    {
      key: "chunk_size",
      type: "int32",
      default: 10,
      propargs: { min: 1, max: 1000 },
      visible: "submission",
      description: "Frames in one task; each task loads the avatar once",
    },
    {
      key: "output_path",
      type: "string",
      subtype: "file_path",
      required: true,
      eval: "bpy.path.abspath(C.scene.render.filepath)",
      description: "Where the frames go, as Blender's Output Path: a folder with a slash at the end, or with ####",
    },
    {
      key: "scene",
      type: "string",
      required: false,
      visible: "web",
      eval: "C.scene.name",
      description: "Scene to render; empty for the one that is open in the file",
    },
    {
      key: "device",
      type: "string",
      required: false,
      description: "auto, cpu, cuda, cuda:1, mps; empty for what each worker is set to",
    },
    // What the Manager fills in.
    { key: "blendfile", type: "string", required: true, visible: "web", description: "The blend file" },
  ],
};

// Blender renders with another engine, and says nothing, where the extension is not there; and an avatar's scene may be
// rendered from a set's. So a task first makes sure of the extension. Python's exit code goes before --python-expr.
const REQUIRE = "import bpy; bpy.types.Scene.neural_avatar_batch";

function compileJob(job) {
  const settings = job.settings;
  const before = ["--python-exit-code", "9", "--python-expr", REQUIRE];
  if (settings.device) {
    const chosen = JSON.stringify(settings.device);
    before.push("--python-expr", "import os; os.environ['NEURAL_AVATAR_DEVICE'] = " + chosen);
  }
  const where = (settings.scene ? ["--scene", settings.scene] : []).concat(["--render-output", settings.output_path]);
  for (const chunk of frameChunker(settings.frames, settings.chunk_size)) {
    const task = author.Task("render-" + chunk, "blender");
    task.addCommand(
      author.Command("blender-render", {
        exe: "{blender}",
        exeArgs: "{blenderArgs}",
        argsBefore: before,
        blendfile: settings.blendfile,
        // Flamenco writes 1-10, Blender 1..10.
        args: where.concat(["--render-frame", chunk.replace(/-/g, "..")]),
      }),
    );
    job.addTask(task);
  }
}
