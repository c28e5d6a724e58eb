console.log('post on-success of ' + process.env.GITHUB_JOB);
