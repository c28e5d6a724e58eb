console.log('post on-failure of ' + process.env.GITHUB_JOB);
