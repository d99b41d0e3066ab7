// SPDX-License-Identifier: GPL-3.0-or-later
//
// A Flamenco job type: a baked pose clip rendered without Blender, in chunks, each of which may be killed and run again.
// Put this file into the `scripts` folder beside the Flamenco Manager, restart it, and define the two-way or one-way
// variable {neuralAvatar}: the path of the command `neural-avatar` on the workers.

const JOB_TYPE = {
  label: "Neural Avatar (clip)",
  description: "Render a baked pose clip without Blender",
  settings: [
    { key: "avatar", type: "string", subtype: "file_path", required: true, description: "The avatar file" },
    { key: "clip", type: "string", subtype: "file_path", required: true, description: "The clip that was baked" },
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
      default: 50,
      propargs: { min: 1, max: 10000 },
      visible: "submission",
      description: "Frames in one task; each task loads the avatar once",
    },
    { key: "output", type: "string", subtype: "dir_path", required: true, description: "Folder of the frames" },
    { key: "format", type: "string", required: true, default: "exr", choices: ["exr", "png"], description: "Pictures" },
    { key: "devices", type: "string", required: false, description: "Such as 0,1 for two GPUs; empty for the best one" },
  ],
};

function compileJob(job) {
  const settings = job.settings;
  const options = ["-o", settings.output, "--format", settings.format];
  if (settings.devices) {
    options.push("--devices", settings.devices);
  }
  for (const chunk of frameChunker(settings.frames, settings.chunk_size)) {
    const task = author.Task("render-" + chunk, "misc");
    // A chunk may be several ranges, 3,10-20: each is a command of its own.
    for (const range of chunk.split(",")) {
      const ends = range.trim().split("-");
      task.addCommand(
        author.Command("exec", {
          exe: "{neuralAvatar}",
          args: ["render", settings.avatar, settings.clip]
            .concat(options)
            .concat(["--start", ends[0], "--end", ends[ends.length - 1]]),
        }),
      );
    }
    job.addTask(task);
  }
}
